"""Whether the labels of devel and test are those of train: a two-sample Kolmogorov-Smirnov test per emotion.

N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from emoshare.data.labels import Finding, LabelTable

FEWEST = 20  # clips of a partition
LEAST = 0.1  # KS distance: less changes no score that anyone would notice
LEVEL = 0.01  # of the tests of a corpus together (Bonferroni)
SHOWN = 3  # emotions that a line names, the most different first


def find_drift(
    tables: Mapping[str, LabelTable], shares: Mapping[str, np.ndarray | None], targets: list[str]
) -> Iterator[Finding]:
    """One warning per partition with emotions whose shares are distributed otherwise than in train.

    The distance is the largest difference between the two distribution functions: 0 to 1.

    shares: partition → (N, E); None where labels are hidden.
    """
    train = shares["train"]
    others = {
        part: values
        for part, values in shares.items()
        if part != "train" and values is not None and len(values) >= FEWEST
    }
    if train is None or len(train) < FEWEST:
        return
    for part, values in others.items():
        tests = len(others) * len(targets)
        distances = [(*distance(train[:, e], values[:, e]), e) for e in range(len(targets))]
        matters = sorted([(far, e) for far, p, e in distances if far >= LEAST and p * tests < LEVEL], reverse=True)
        if matters:
            means = {e: (values[:, e].mean(), train[:, e].mean()) for _, e in matters}
            texts = [
                f"{targets[e]} (mean {means[e][0]:.2f}, in train {means[e][1]:.2f}; KS distance {far:.2f})"
                for far, e in matters[:SHOWN]
            ]
            more = f" and {len(matters) - SHOWN} more" if len(matters) > SHOWN else ""
            kind = "labels distributed otherwise than in train: divide the clips anew, or expect lower scores there"
            yield Finding(kind, tables[part].title, 0, ", ".join(texts) + more, error=False)


def distance(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The KS distance of two samples, and its p value."""
    from scipy.stats import ks_2samp

    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0, 1.0  # cells that are no numbers, which is said elsewhere
    result = ks_2samp(one, other, method="asymp")
    return float(result.statistic), float(result.pvalue)
