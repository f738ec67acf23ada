"""The report's tables of groups, each a function Report → Table."""

from __future__ import annotations

from typing import Any

import numpy as np

from emoshare.metrics.bootstrap import FEWEST_CLUSTERS
from emoshare.metrics.strata import FEWEST
from emoshare.reporting.analysis import Report, Score
from emoshare.reporting.comparison import LEVEL
from emoshare.reporting.formats import Entry, Table, delta, in_brackets, interval, number, p_value, score
from emoshare.reporting.groups import MOST, Group, Grouped


def tables_of_groups(report: Report) -> list[Table]:
    """Scores by group and the gaps between groups, and both kinds of intervals where clips belong together."""
    parts = [Grouped(report, part) for part in report.study.labels]
    made = [groups(report, parts), gaps(report, parts)] if any(part.groups for part in parts) else []
    return [*made, intervals(report, parts)] if parts[0].labels.clusters is not None else made


def _score_entry(item: Score) -> Entry:
    return Entry(score(item.mean), interval(item.low, item.high))


def groups(report: Report, parts: list[Grouped]) -> Table:
    """The best cell's scores on the clips of each group."""
    every = [(part, [group for several in part.groups.values() for group in several]) for part in parts]
    rows, records = scored_rows(every)
    note = f"{report.short_label(report.best)}, scored on the clips of each group alone"
    note += f"{in_brackets(report.units)}. Groups of at least {FEWEST} clips, at most {MOST} of a column."
    if not all(group.has_score.all() for _, several in every for group in several):
        note += " Where all labels of a target are equal in a group, its mean is over the other targets."
    note += few(report)
    titles = ("Column", *header(report, "Group"))
    return Table("groups", "Scores by group", note, titles, rows, records, 3)


def header(report: Report, first: str) -> tuple[str, ...]:
    """The titles of a table of groups: what they are, and the scores."""
    return (first, "Partition", "Clips", *(m.label for m in report.metrics if m.computable))


def scored_rows(parts: list[tuple[Grouped, list[Group]]]) -> tuple[list[list[Entry]], list[dict[str, Any]]]:
    """A row and a record for each group of each partition: column, value, partition, clips and scores."""
    rows, records = [], []
    for part, several in parts:
        for group in several:
            scores = {metric: group.score(metric) for metric in group.points}
            of = "" if group.has_score.all() else f"{group.has_score.sum()} of {len(group.has_score)} targets"
            clips = Entry(number(len(group.rows), 0), of)
            start = [Entry(group.column), Entry(group.value), Entry(part.partition), clips]
            rows.append([*start, *map(_score_entry, scores.values())])
            record: dict[str, Any] = {"column": group.column, "group": group.value, "partition": part.partition}
            record |= {"clips": len(group.rows), "targets": int(group.has_score.sum())}
            for metric, item in scores.items():
                record |= item.record(metric)
            records.append(record)
    return rows, records


def gaps(report: Report, parts: list[Grouped]) -> Table:
    """The gaps between groups: for each column the one with the best score against the one with the worst."""
    rows, records = [], []
    for part in parts:
        for gap in part.gaps():
            verdict = "a gap" if gap.real else "not shown"
            pair = [Entry(g.value, score(x)) for g, x in zip((gap.high, gap.low), gap.levels, strict=True)]
            bounds = f"[{delta(gap.bounds[0])}, {delta(gap.bounds[1])}]" if np.isfinite(gap.bounds[0]) else ""
            start = [Entry(gap.high.column), Entry(part.partition), *pair]
            rows.append([*start, Entry(delta(gap.difference), bounds), Entry(p_value(gap.p)), Entry(verdict)])
            record: dict[str, Any] = {"column": gap.high.column, "partition": part.partition, "high": gap.high.value}
            record |= {"low": gap.low.value, "targets": gap.targets, "difference": gap.difference}
            record |= {"p": gap.p, "verdict": verdict}
            records.append(record | {"difference_low": gap.bounds[0], "difference_high": gap.bounds[1]})
    label = report.main.label
    note = f"{label} of the best group minus that of the worst, on the same resamples of {report.units}: paired where "
    note += (
        f"both hold the same ones. Interval (95 %) and p are corrected for all pairs of a column. A gap: p < {LEVEL:g}."
    )
    if any(record["targets"] < len(report.study.targets) for record in records):
        note += f" {label} is over the targets that have a score in all groups of the column."
    note += few(report)
    ends = ("Highest", "Lowest") if report.main.greater_is_better else ("Lowest", "Highest")
    header = ("Column", "Partition", *ends, f"Difference of {label}", "p", "Verdict")
    return Table("gaps", "Gaps between groups", note, header, rows, records, 2)


def few(report: Report) -> str:
    """A note on the units that the bootstrap draws in columns whose groups hold few clusters."""
    cluster = report.study.labels["devel"].cluster
    return (
        f" Single clips are drawn where a group has fewer than {FEWEST_CLUSTERS} values of {cluster}."
        if cluster
        else ""
    )


def intervals(report: Report, parts: list[Grouped]) -> Table:
    """The best cell's intervals over single clips, and over clusters of them."""
    rows, records, sizes = [], [], []
    for part in parts:
        clusters = part.labels.clusters
        sizes += [] if clusters is None else [f"{len(np.unique(clusters))} in {part.partition}"]
        for metric in (metric for metric in report.metrics if metric.computable):
            if comparison := part.widening(metric.name):
                alone, together, factor = comparison
                pair = [Entry(interval(item.low, item.high)) for item in (alone, together)]
                start = [Entry(part.partition), Entry(metric.label), Entry(score(alone.mean))]
                rows.append([*start, *pair, Entry(number(factor, 2))])
                record = {"partition": part.partition, "metric": metric.name, "mean": alone.mean, "factor": factor}
                record |= {"clips_low": alone.low, "clips_high": alone.high}
                records.append(record | {"cluster_low": together.low, "cluster_high": together.high})
    cluster = report.study.labels["devel"].cluster or "cluster"
    note = (
        f"{report.short_label(report.best)}. Factor: how much wider the interval is when all clips of a {cluster} are "
    )
    note += (
        "drawn together; above 1 the one over single clips is too narrow by it. Below 1 there are too few to tell, or "
    )
    note += f"clips are independent. Every other interval here is over {report.units} ({', '.join(sizes)})."
    header = ("Partition", "Score", "Mean", "Interval over clips", f"Interval by {cluster}", "Factor")
    return Table("intervals", f"Intervals by {cluster}", note, header, rows, records, 2)
