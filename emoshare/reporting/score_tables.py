"""The report's tables of scores, each a function Report → Table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.reporting.analysis import BACKBONE, METRICS, SECONDS, Report, Score, Slice
from emoshare.reporting.formats import NONE, Entry, Table, chance, number, score, signed, spread, value
from emoshare.reporting.run_tables import STATES
from emoshare.reporting.study import Cell

MARKS = {"best": "", "tied": " ≈", "worse": "", "unsettled": " °", "untested": ""}


def tables(report: Report) -> list[Table]:
    """All score tables that the study has the runs for, in the order of the page."""
    made = [backbones(report)]
    if report.windows:
        made.append(windows(report))
    if {*report.varying} - {BACKBONE, SECONDS} or report.grid:
        made.append(cells(report))
    made.append(emotions(report))
    return [*made, approaches(report)] if report.comparable else made


def backbones(report: Report) -> Table:
    """The paper's Table III: backbones at one window, the best first."""
    ranked = sorted(report.backbones.cells, key=lambda cell: _rank(report, cell))
    return _scores(report, report.backbones, ranked, "backbones", "Backbones on devel", {BACKBONE: "Backbone"})


def windows(report: Report) -> Table:
    """The paper's Table IV: windows of one backbone.

    Raises:
        EmoshareError: the study has one window.
    """
    if report.windows is None:
        raise EmoshareError("no table of windows: all runs have the same window.seconds")
    piece = report.windows
    return _scores(report, piece, piece.cells, "windows", "Windows on devel", {SECONDS: "Window (s)"})


def cells(report: Report) -> Table:
    """Every cell, by the keys that vary, the best first."""
    ranked = sorted(report.everything.cells, key=lambda cell: _rank(report, cell))
    keys = {key: key for key in report.varying}
    return _scores(report, report.everything, ranked, "cells", "All cells on devel", keys)


def _rank(report: Report, cell: Cell) -> tuple[float, str]:
    mean = report.score(cell, "avg").mean
    return (-mean if math.isfinite(mean) else math.inf, report.label(cell))


def _scores(
    report: Report,
    piece: Slice,
    ordered: Sequence[Cell],
    name: str,
    title: str,
    keys: dict[str, str],
) -> Table:
    """A row per cell: its values of some config keys, its runs, SCC, CCC, Avg, and the paper's numbers beside them."""
    published = {cell.key: report.published(cell, name) for cell in ordered} if name != "cells" else {}
    paper = any(published.values())
    header = [*keys.values(), "Runs", "SCC", "CCC", "Avg", "p vs best"]
    header += ["Paper Avg (SCC, CCC)", *(["Δ Avg (SCC, CCC)"] if report.comparable else [])] if paper else []
    means = {metric: [report.score(c, metric).mean for c in piece.order] for metric in METRICS}
    best = {metric: max(filter(math.isfinite, values), default=math.nan) for metric, values in means.items()}
    rows, records = [], []
    for cell in ordered:
        scores = {metric: report.score(cell, metric) for metric in METRICS}
        entries = [Entry(value(cell.config.get(key))) for key in keys]
        if cell.runs:
            entries += _measured(piece, cell, scores, best)
        else:
            entries += [Entry("0"), *[Entry(STATES[cell.state], state=cell.state)] * 3, Entry(NONE)]
        if paper:
            entries += _published(report, scores, published[cell.key])
        rows.append(entries)
        records.append(_record(report, piece, cell, scores, published.get(cell.key, {})))
    return Table(name, title, _caption(report, piece, paper), tuple(header), rows, records, len(keys))


def _measured(piece: Slice, cell: Cell, scores: dict[str, Score], best: dict[str, float]) -> list[Entry]:
    verdict = piece.verdict(cell)
    entries = [Entry(str(len(cell.runs)), small=f"+ {len(cell.others)} without results" if cell.others else "")]
    for metric, item in scores.items():
        text = score(item.mean) + (f" ± {score(item.std)}" if math.isfinite(item.std) else "")
        mark = MARKS[verdict] if metric == "avg" else ""
        entries.append(Entry(text + mark, spread(item.low, item.high), bold=item.mean == best[metric]))
    p = piece.comparison.adjusted[piece.comparison.best, piece.order.index(cell)]
    return [*entries, Entry(NONE if verdict == "best" else chance(p))]


def _published(report: Report, scores: dict[str, Score], paper: dict[str, float]) -> list[Entry]:
    if not paper:
        return [Entry(NONE)] * (2 if report.comparable else 1)
    number = paper.get("avg", (paper["scc"] + paper["ccc"]) / 2)
    entries = [Entry(score(number), f"({score(paper['scc'])}, {score(paper['ccc'])})")]
    if report.comparable:
        small = ", ".join(signed(scores[metric].mean - paper[metric]) for metric in ("scc", "ccc"))
        entries.append(Entry(signed(scores["avg"].mean - number), f"({small})"))
    return entries


def _record(
    report: Report, piece: Slice, cell: Cell, scores: dict[str, Score], paper: dict[str, float]
) -> dict[str, Any]:
    keys = dict.fromkeys([BACKBONE, SECONDS, *report.varying])
    record: dict[str, Any] = {key: cell.config.get(key) for key in keys}
    record |= {"cell": cell.key if cell.runs else "", "state": cell.state, "runs": len(cell.runs)}
    for metric, item in scores.items():
        record |= {f"{metric}_{part}": getattr(item, part) for part in ("mean", "std", "low", "high")}
        if paper:
            published = paper.get(metric, (paper["scc"] + paper["ccc"]) / 2)
            record[f"{metric}_paper"] = published
            if report.comparable:
                record[f"{metric}_difference"] = item.mean - published
    record["verdict"] = piece.verdict(cell)
    if cell.runs:
        at = piece.comparison.best, piece.order.index(cell)
        record |= {"p": piece.comparison.p[at], "p_holm": piece.comparison.adjusted[at]}
    return record


def _caption(report: Report, piece: Slice, paper: bool) -> str:
    fixed = ", ".join(f"{key}={value(item)}" for key, item in piece.fixed.items() if key not in piece.axes)
    several = any(len(cell.runs) > 1 for cell in piece.order)
    parts = [f"At {fixed}." if fixed else ""]
    parts += [
        "Mean ± standard deviation over the seeds of a cell" if several else "One run per cell",
        f"; in brackets the 95 % interval over clips ({report.resamples:,} bootstrap resamples). ",
    ]
    parts.append("Best in bold. " if len(piece.order) > 1 else "")
    parts.append(testing(report, piece) if len(piece.order) > 1 else "")
    if paper:
        parts.append("Paper: one run per row" + (", window not stated. " if piece is report.backbones else ". "))
        if not report.comparable:
            parts.append("It is no yardstick here: the demo corpus is synthetic, so no difference is shown.")
    return "".join([parts[0] + " " if parts[0] else "", *parts[1:]]).strip()


def testing(report: Report, piece: Slice) -> str:
    """What the marks and p values of a table mean, and what they do not cover."""
    comparison = piece.comparison
    text = (
        "≈: Avg not significantly below the best (paired bootstrap over clips, two-sided, Holm-corrected over all "
        f"pairs of cells, p ≥ {comparison.level:g}). "
    )
    if comparison.freedom:
        return text + (
            f"The test also counts the seed: a standard deviation of {number(comparison.seed_std, 4)} between runs of "
            f"one cell, pooled over the table ({comparison.freedom} degrees of freedom). "
        )
    return text + (
        "°: below it on these clips, but with one run per cell the seed's part is unknown, so nothing is claimed; "
        "run more seeds (seed=0,1,2) to settle it. "
    )


def emotions(report: Report) -> Table:
    """The paper's Table V: SCC per emotion of the best cell, devel and (where labels are known) test."""
    cell, test = report.best, "test" in report.study.truth
    paper = report.paper["test"] if report.paper and test else {}
    header = ["Emotion", "SCC devel", "CCC devel", *(["SCC test", "CCC test"] if test else [])]
    header += ["Paper SCC test", *(["Δ SCC test"] if report.comparable else [])] if paper else []
    rows, records = [], []
    for target in (*report.study.targets, "mean"):
        scores = {
            (metric, part): report.score(cell, metric, part, target)
            for part in (("devel", "test") if test else ("devel",))
            for metric in ("scc", "ccc")
        }
        entries = [Entry("Mean" if target == "mean" else target, bold=target == "mean")]
        entries += [Entry(_plain(item), spread(item.low, item.high)) for item in scores.values()]
        record: dict[str, Any] = {"target": target}
        for (metric, part), item in scores.items():
            record |= {f"{part}_{metric}_{name}": getattr(item, name) for name in ("mean", "std", "low", "high")}
        if paper:
            difference = scores["scc", "test"].mean - paper[target]
            entries += [Entry(score(paper[target])), *([Entry(signed(difference))] if report.comparable else [])]
            record |= {"paper_test_scc": paper[target]}
        rows.append(entries)
        records.append(record)
    note = f"The cell with the highest devel Avg, {report.label(cell)}, chosen on devel alone; mean over its runs"
    note += ", ± standard deviation over seeds" if len(cell.runs) > 1 else ""
    note += "; in brackets the 95 % bootstrap interval over clips."
    note += " Paper: hubert_large on the hidden test set." if paper else ""
    note += "" if test else " Test labels are hidden: no score."
    return Table("emotions", "Emotions of the best cell", note, tuple(header), rows, records)


def _plain(item: Score) -> str:
    return score(item.mean) + (f" ± {score(item.std)}" if math.isfinite(item.std) else "")


def approaches(report: Report) -> Table:
    """The paper's Table VI: SCC of other approaches, with the best cell below them."""
    lines = {**report.paper["approaches"]}
    ours = {part: report.score(report.best, "scc", part).mean for part in ("devel", "test")}
    lines[f"{report.label(report.best)} (best cell)"] = ours
    rows = [
        [Entry(name, bold=row is ours), Entry(score(row["devel"])), Entry(score(row["test"]))]
        for name, row in lines.items()
    ]
    note = "SCC of the paper's approaches on Hume-Prosody, and of the best cell here. Its devel figure of HuBERT large "
    note += "is Table III's: the 0.549 printed in its Table VI is the average of SCC and CCC."
    records = [{"approach": name, **row} for name, row in lines.items()]
    return Table("approaches", "Other approaches", note, ("Approach", "SCC devel", "SCC test"), rows, records)
