"""The report's tables of what the labels say of the scores, each a function Report → Table."""

from __future__ import annotations

from emoshare.reporting.analysis import Report
from emoshare.reporting.formats import Table, in_brackets
from emoshare.reporting.group_tables import few, header, scored_rows
from emoshare.reporting.groups import Grouped


def tables_of_labels(report: Report) -> list[Table]:
    """Scores by the entropy of the labels, where that differs between clips."""
    parts = [Grouped(report, part) for part in report.study.labels]
    return [entropy(report, parts)] if any(part.strata for part in parts) else []


def entropy(report: Report, parts: list[Grouped]) -> Table:
    """The best cell's scores on clips whose labels have a low, a middle and a high entropy."""
    rows, records = scored_rows([(part, part.strata) for part in parts])
    note = f"{report.short_label(report.best)}, scored on thirds of each partition's clips by the entropy of their "
    note += "labels: 0 where one emotion has all, 1 where all have the same share"
    note += f"{in_brackets(report.units)}. Labels vary less in a third than in the whole, which lowers correlations."
    note += few(report)
    titles = header(report, "Entropy")
    return Table("entropy", "Scores by entropy of the labels", note, titles, [row[1:] for row in rows], records, 2)
