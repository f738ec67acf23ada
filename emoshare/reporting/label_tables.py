"""The report's tables of what the labels say of the scores, each a function Report → Table."""

from __future__ import annotations

from typing import Any

from emoshare.metrics.ceiling import SPLITS, Bounded, noise_ceiling
from emoshare.reporting.analysis import Report
from emoshare.reporting.formats import NONE, Entry, Table, in_brackets, interval, number, score
from emoshare.reporting.group_tables import few, header, scored_rows
from emoshare.reporting.groups import Grouped


def tables_of_labels(report: Report) -> list[Table]:
    """Scores by the entropy of the labels, where that differs between clips; the noise ceiling, if there are votes."""
    parts = [Grouped(report, part) for part in report.study.labels]
    made = [entropy(report, parts)] if any(part.strata for part in parts) else []
    bounds = ceiling(report)
    return [*made, bounds] if bounds.rows else made


def entropy(report: Report, parts: list[Grouped]) -> Table:
    """The best cell's scores on clips whose labels have a low, a middle and a high entropy."""
    rows, records = scored_rows([(part, part.strata) for part in parts])
    note = f"{report.short_label(report.best)}, scored on thirds of each partition's clips by the entropy of their "
    note += "labels: 0 where one emotion has all, 1 where all have the same share"
    note += f"{in_brackets(report.units)}. Labels vary less in a third than in the whole, which lowers correlations."
    note += few(report)
    titles = header(report, "Entropy")
    return Table("entropy", "Scores by entropy of the labels", note, titles, [row[1:] for row in rows], records, 2)


def ceiling(report: Report) -> Table:
    """The best cell's scores beside those of one half of the raters against the other, and what follows from these."""
    rows, records = [], []
    for part, labels in report.study.labels.items():
        if labels.counts is None:
            continue
        found = noise_ceiling(labels.counts, report.metrics, report.resamples, labels.clusters)
        for metric in (metric for metric in report.metrics if metric.name in found):
            best, raters = report.score(report.best, metric.name, part), found[metric.name]
            entries = [Entry(part), Entry(metric.label), Entry(score(best.mean), interval(best.low, best.high))]
            rows.append([*entries, _entry(raters.halves), _entry(raters.attainable)])
            record: dict[str, Any] = {"partition": part, "metric": metric.name, **best.record("score")}
            for name, item in (("halves", raters.halves), ("ceiling", raters.attainable)):
                record |= {f"{name}_{key}": value for key, value in vars(item).items()} if item else {}
            records.append(record)
    note = (
        f"{report.short_label(report.best)}. Halves: the votes of each clip are divided at random, and the shares of "
    )
    note += f"one half are scored as predictions of the other's; mean of {number(SPLITS, 0)} divisions, not corrected. "
    note += "Ceiling: the highest that predictions can reach against the shares of all votes, by the correlation of "
    note += "halves (Spearman-Brown's formula, then the root); SCC stays a little below it where votes are few. Where "
    note += "there is none, predictions can be better than the halves, which are noisier than all votes"
    note += f"{in_brackets(report.units)}."
    return Table(
        "ceiling", "Noise ceiling", note, ("Partition", "Score", "Best cell", "Halves", "Ceiling"), rows, records, 2
    )


def _entry(item: Bounded | None) -> Entry:
    return Entry(NONE) if item is None else Entry(score(item.value), interval(item.low, item.high))
