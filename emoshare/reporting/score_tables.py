"""The report's tables of scores, each a function Report → Table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.windows import recipe_name, window_name, window_of
from emoshare.metrics.error import MAE
from emoshare.metrics.rank import SCC
from emoshare.metrics.scores import scc_ceiling, score_record
from emoshare.reporting import paper_columns
from emoshare.reporting.analysis import Report, Score, Slice
from emoshare.reporting.comparison import LEVEL
from emoshare.reporting.formats import (
    NONE,
    Entry,
    Table,
    delta,
    duration,
    in_brackets,
    interval,
    is_narrow,
    number,
    p_value,
    score,
    value,
)
from emoshare.reporting.loaded import STATES, Cell
from emoshare.reporting.run_tables import cost_of
from emoshare.reporting.slices import BACKBONE, HEAD, SECONDS

MARKS = {"best": "", "tied": " ≈", "worse": "", "unsettled": " °", "untested": ""}
MOST_COLUMNS = 4  # of keys that vary: more share one field
Columns = dict[str, Callable[[Cell], Entry]]


def tables_of_scores(report: Report) -> list[Table]:
    """All score tables that the study has the runs for, in the order of the page."""
    every = bool({*report.varying} - {BACKBONE, SECONDS}) or report.grid is not None or report.several_systems
    made = [systems(report)] if report.paper or report.several_systems else []
    if len(report.backbones.cells) > 1 or not (every or report.windows):
        made.append(backbones(report))
    made += [windows(report)] if report.windows else []
    made += [cells(report)] if every else []
    made += [held_out_scores(report)] if report.tested and len(report.everything.order) > 1 else []
    return [*made, emotions(report)] if report.by_target else made


def backbones(report: Report) -> Table:
    """The paper's Table III: backbones at one window, the best first."""
    columns: Columns = {"Backbone": lambda cell: Entry(report.system(cell))}
    ranked = sorted(report.backbones.cells, key=lambda cell: _rank(report, cell))
    return _scores(report, report.backbones, ranked, "backbones", "Backbones on devel", columns)


def windows(report: Report) -> Table:
    """The paper's Table IV: windows of one backbone.

    Raises:
        EmoshareError: the study has one window.
    """
    if report.windows is None:
        raise EmoshareError("no table of windows: all runs have the same window.seconds")
    columns: Columns = {
        "Window (s)": lambda cell: Entry(
            window_name(window_of(cell.config)).replace(" s", "", 1), sort=cell.config.get(SECONDS)
        )
    }
    return _scores(report, report.windows, report.windows.cells, "windows", "Windows on devel", columns)


def cells(report: Report) -> Table:
    """Every cell, by the keys that vary, the best first."""
    ranked = sorted(report.everything.cells, key=lambda cell: _rank(report, cell))
    return _scores(report, report.everything, ranked, "cells", "All cells on devel", _key_columns(report))


def _key_columns(report: Report) -> Columns:
    """The columns that tell cells apart: their system, then the other keys that vary."""

    def column(key: str) -> Callable[[Cell], Entry]:
        return lambda cell: Entry(value(cell.config[key]) if key in cell.config else NONE)

    keys = [key for key in report.varying if key not in (BACKBONE, HEAD, *report.window_keys)]
    if len(keys) > MOST_COLUMNS:  # or the scores would be outside the page
        return {
            "System": lambda cell: Entry(
                report.system(cell), _members(report, cell) or report.label(cell).partition(", ")[2]
            )
        }
    system: Columns = {"System": lambda cell: Entry(report.system(cell), _members(report, cell))}
    named = {"window": lambda cell: Entry(recipe_name(window_of(cell.config)) or NONE)}
    return system | {key: column(key) for key in keys} | (named if {*report.window_keys} & {*report.varying} else {})


def _members(report: Report, cell: Cell) -> str:
    """The members of a fusion, by the labels of their cells where these are in the study; nothing for others."""
    if not cell.is_fusion:
        return ""
    members = cell.runs[0].results.members if cell.runs else []
    names = dict.fromkeys(report.labels.get(member.run, member.run) for member in members)
    return f"of {'; '.join(names)}" if names else ""


def _rank(report: Report, cell: Cell) -> tuple[float, str]:
    return -report.level(cell), report.label(cell)


def _scores(report: Report, piece: Slice, ordered: Sequence[Cell], name: str, title: str, columns: Columns) -> Table:
    """A row per cell: what it is, its runs, its scores and MAE, and the paper's numbers beside them."""
    published = {c.key: paper_columns.scores_of(report, c, name) if name != "cells" else {} for c in ordered}
    beside = any(published.values())
    error = extra(report)
    header = [*columns, "Runs", *(metric.label for metric in report.metrics), "p vs best", *error]
    header += paper_columns.COLUMNS if beside else []
    best = {}
    for metric in report.metrics:
        means = [report.score(c, metric.name).mean for c in piece.order]
        best[metric.name] = means[metric.best(means)]
    rows, records = [], []
    for cell in ordered:
        scores = {metric.name: report.score(cell, metric.name) for metric in report.metrics}
        entries = [show(cell) for show in columns.values()]
        if cell.runs:
            entries += _run_entries(report, piece, cell, scores, best)
            entries += [Entry(score(report.score(cell, name).mean)) for name in error.values()]
        else:
            entries += [Entry("0"), *[Entry(STATES[cell.state], state=cell.state)] * len(scores)]
            entries += [Entry(NONE)] * (1 + len(error))
        entries += paper_columns.beside(scores, published[cell.key]) if beside else []
        rows.append(entries)
        records.append(_record(report, piece, cell, scores, published[cell.key]))
    return Table(name, title, _caption(report, piece, beside), tuple(header), rows, records, len(columns))


def extra(report: Report) -> dict[str, str]:
    """The mean absolute error as a column of its own, title → name, where it is not among the metrics."""
    return {} if MAE in report.metrics else {MAE.label: MAE.name}


def _run_entries(
    report: Report, piece: Slice, cell: Cell, scores: dict[str, Score], best: dict[str, float]
) -> list[Entry]:
    verdict = piece.verdict(cell)
    small = f"+ {len(cell.others)} without results" if cell.others else "" if cell.seeded else "any seed"
    entries = [Entry(str(len(cell.runs)), small=small)]
    for metric, item in scores.items():
        mark = MARKS[verdict] if metric == report.main.name else ""
        entries.append(Entry(with_std(item) + mark, interval(item.low, item.high), bold=item.mean == best[metric]))
    return [*entries, Entry(p_value(piece.comparison.corrected[piece.order.index(cell)]))]


def _record(
    report: Report, piece: Slice, cell: Cell, scores: dict[str, Score], published: dict[str, float]
) -> dict[str, Any]:
    record: dict[str, Any] = {key: cell.config.get(key) for key in dict.fromkeys([BACKBONE, SECONDS, *report.varying])}
    record |= {"cell": cell.key if cell.runs else "", "system": cell.system, "state": cell.state}
    record["runs"] = len(cell.runs)
    for metric, item in scores.items():
        record |= item.record(metric)
        if metric in published:
            record[f"{metric}_paper"] = published[metric]
            record[f"{metric}_difference"] = item.mean - published[metric]
    record |= {f"{name}_mean": report.score(cell, name).mean for name in extra(report).values()}
    record["verdict"] = piece.verdict(cell)
    if cell.runs:
        at = piece.order.index(cell)
        record |= {"p": piece.comparison.p[at], "p_holm": piece.comparison.corrected[at]}
    return record


def _caption(report: Report, piece: Slice, beside: bool) -> str:
    fixed = [f"{key}={value(item)}" for key, item in piece.fixed.items()]
    more = f" and {len(fixed) - 6} more keys" if len(fixed) > 7 else ""
    shown = fixed[:6] if more else fixed
    several = any(len(cell.runs) > 1 for cell in piece.order)
    parts = [f"At {', '.join(shown)}{more}."] if fixed else []
    mean = f"Mean{'' if is_narrow() else ' ± standard deviation'} over the seeds of a cell"
    resamples = "" if is_narrow() else f" ({report.resamples:,} resamples)"
    intervals = in_brackets(report.units) + resamples
    parts.append(f"{mean if several else 'One run per cell'}{intervals}. MAE: mean absolute error.")
    parts += ["Best in bold.", testing(piece, report)] if len(piece.order) > 1 else []
    if beside:
        parts.append("Paper: one run per row" + (", window not stated." if piece is report.backbones else "."))
    return " ".join(parts)


def testing(piece: Slice, report: Report) -> str:
    """A note on the meaning of a table's marks and p values, and on what they do not cover."""
    comparison, others, side = piece.comparison, len(piece.order) - 1, report.side
    family = f", Holm-corrected over the {others} comparisons with the best" if others > 1 else ""
    text = f"≈: {report.main.label} not significantly {side} the best (paired bootstrap over {report.units}, two-sided"
    text += f"{family}, p ≥ {LEVEL:g})."
    if comparison.freedom:
        return text + (
            f" The test also counts the seed: a standard deviation of {number(comparison.seed_std, 4)} between runs of "
            f"one cell, pooled over the table ({comparison.freedom} degrees of freedom)."
        )
    if comparison.settled.all():
        return text
    return text + (
        f" °: {side} it on these clips, but with one run per cell the seed's part is unknown, so nothing is claimed; "
        "more seeds (0, 1, 2) would settle it."
    )


def held_out_scores(report: Report) -> Table:
    """Test scores of every cell with results, in the order of the devel score."""
    columns, main = _key_columns(report), report.main
    ranked = sorted(report.everything.order, key=lambda cell: _rank(report, cell))
    rows, records = [], []
    for cell in ranked:
        scores = {metric.name: report.score(cell, metric.name, "test") for metric in report.metrics}
        entries = [show(cell) for show in columns.values()]
        entries += [Entry(score(report.score(cell, main.name).mean))]
        entries += [Entry(with_std(item), interval(item.low, item.high)) for item in scores.values()]
        errors = {name: report.score(cell, name, "test").mean for name in extra(report).values()}
        rows.append([*entries, *(Entry(score(value)) for value in errors.values())])
        record: dict[str, Any] = {"cell": cell.key, "label": report.label(cell)}
        for metric, item in scores.items():
            record |= item.record(f"test_{metric}")
        records.append(record | {f"test_{name}_mean": value for name, value in errors.items()})
    titles = (f"{label} test" for label in (*(metric.label for metric in report.metrics), *extra(report)))
    header = (*columns, f"{main.label} devel", *titles)
    note = "For reading, not for choosing: a score by which a row was picked is no longer one on unseen clips. "
    note += f"Ordered by devel {main.label}{in_brackets(report.units)}. "
    note += "MAE: mean absolute error."
    return Table("test", "Test scores (not for selection)", note, header, rows, records, len(columns))


def emotions(report: Report) -> Table:
    """The paper's Table V: scores per emotion of the best cell, devel and (where labels are known) test."""
    cell, partitions = report.best, tuple(report.study.labels)
    published = paper_columns.emotions_of(report)
    one_hot = report.study.labels["devel"].one_hot
    metrics = {metric.name: metric.label for metric in report.by_target}
    metrics |= {"auc": "AUC"} if one_hot else {}
    targets = report.study.targets
    ceilings = {part: score_record(scc_ceiling(labels.shares), targets) for part, labels in report.study.labels.items()}
    header = ["Emotion"]
    for part in partitions:
        for metric, label in metrics.items():
            header += [f"{label} {part}", *([f"SCC ≤ {part}"] if metric == SCC.name and one_hot else [])]
    header += ["Paper SCC test", "Δ SCC test"] if published else []
    rows, records = [], []
    for target in (*targets, "mean"):
        scores = {(m, part): report.score(cell, m, part, target) for part in partitions for m in metrics}
        entries = [Entry("Mean" if target == "mean" else target, bold=target == "mean")]
        record: dict[str, Any] = {"target": target}
        for (metric, part), item in scores.items():
            entries.append(Entry(with_std(item), interval(item.low, item.high)))
            record |= item.record(f"{part}_{metric}")
            if metric == SCC.name and one_hot:
                entries.append(Entry(score(ceilings[part][target])))
                record[f"{part}_{SCC.name}_ceiling"] = ceilings[part][target]
        if published:
            entries += [
                Entry(score(published[target])),
                Entry(delta(scores[SCC.name, "test"].mean - published[target])),
            ]
            record |= {f"paper_test_{SCC.name}": published[target]}
        rows.append(entries)
        records.append(record)
    note = f"{report.best_in_words}, {report.short_label(cell)}, chosen on devel alone; mean over its runs"
    note += ", ± standard deviation over seeds" if len(cell.runs) > 1 and not is_narrow() else ""
    note += f"{in_brackets(report.units)}."
    if one_hot:
        note += " SCC ≤: the highest that predictions without ties can reach, as most labels are tied at 0. AUC: area "
        note += "under the ROC curve, .5 is chance; each clip has one emotion here."
    note += " Paper: hubert_large on the hidden test set." if published else ""
    note += "" if report.tested else " Test labels are hidden: no score."
    return Table("emotions", "Emotions of the best cell", note, tuple(header), rows, records)


def with_std(item: Score) -> str:
    """A mean, and its standard deviation over seeds where there are several."""
    return score(item.mean) + (f" ± {score(item.std)}" if math.isfinite(item.std) and not is_narrow() else "")


def _systems(report: Report) -> dict[str, Cell]:
    """Each system's best cell, the best system first; those without results last."""
    best: dict[str, Cell] = {}
    for cell in sorted(report.study.cells, key=lambda cell: _rank(report, cell)):
        best.setdefault(report.system(cell) + (_members(report, cell)), cell)
    return best


def systems(report: Report) -> Table:
    """The paper's Table VI: each system at its best cell, with the paper's numbers for the same approach beside it."""
    numbers = report.paper.get("approaches", {})
    missing = dict(numbers)
    rows, records, first, main = [], [], report.first, report.main
    for cell in _systems(report).values():
        approach = paper_columns.approach_of(report.paper, cell)
        published = missing.pop(approach, numbers.get(approach, {}))
        rows.append(_system_row(report, cell) + paper_columns.approach_entries(report, published))
        scores = {f"{part}_{first.name}": report.score(cell, first.name, part).mean for part in ("devel", "test")}
        record = {"system": report.system(cell), "cell": report.label(cell), "state": cell.state, **scores}
        records.append(
            record
            | {
                main.name: report.score(cell, main.name).mean,
                "approach": approach,
                **paper_columns.flat_record(published),
            }
        )
    for approach, published in missing.items():
        rows.append(
            [
                Entry(approach, "in the paper alone"),
                *[Entry(NONE)] * 4,
                *paper_columns.approach_entries(report, published),
            ]
        )
        records.append({"system": "", "state": "paper", "approach": approach, **paper_columns.flat_record(published)})
    titles = f"{first.label} devel", f"{main.label} devel", f"{first.label} test"
    header = ["System", *titles, "Cost", *(["Paper SCC (devel, test)"] if numbers else [])]
    note = f"Each system at its cell with the {report.top} devel {main.label}{in_brackets(report.units)}. "
    note += "Cost: extraction and training of one run, for a fusion with its members."
    note += paper_columns.NOTE if numbers else ""
    return Table("systems", "Systems", note, tuple(header), rows, records)


def _system_row(report: Report, cell: Cell) -> list[Entry]:
    name = Entry(report.system(cell), _members(report, cell) or report.short_label(cell).partition(", ")[2])
    if not cell.runs:
        error = cell.others[0].error
        state = Entry(STATES[cell.state], state=cell.state)
        return [Entry(name.text, error or name.small), state, state, state, Entry(NONE)]
    first, main = report.first.name, report.main.name
    items = [report.score(cell, *what) for what in ((first, "devel"), (main, "devel"), (first, "test"))]
    scores = [Entry(with_std(item), interval(item.low, item.high)) for item in items]
    cost = Entry(duration(seconds := cost_of(cell, report.study)), sort=seconds)
    return [Entry(name.text, name.small + _gain(report, cell)), *scores, cost]


def _gain(report: Report, cell: Cell) -> str:
    """The gain of a fusion over its best member, with the paired interval; nothing where it is narrow."""
    gain = cell.runs[0].results.best.gain.get("devel", {}).get(report.main.name)
    if not gain or is_narrow():
        return ""
    spread = f"[{delta(gain.low)}, {delta(gain.high)}]"
    return f". Devel {report.main.label} against its best member: {delta(gain.difference)} {spread}"
