"""The rules that every score follows: on which clips a target has one, and what the mean over the targets is.

- A target whose true shares are one number on the clips that are scored has no SCC, CCC, Pearson or Avg there: they are
  NaN. The mean is over the other targets, and it is NaN where there are none.
- Predictions that are one number where the labels vary are scored 0: they order nothing. SCC has no value then, and CCC
  is 0 by its formula.
- One number means: equal within float32's resolution (`core/spread.py`).

These hold for selection, results, intervals and resamples alike. Mean absolute errors are always defined.

Shapes: N clips, E targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emoshare.core.spread import is_constant


def settle(scores: np.ndarray, constant_predictions: np.ndarray, constant_labels: np.ndarray) -> np.ndarray:
    """Scores after the rules above: 0 where predictions are constant, NaN where labels are. Arrays of one shape."""
    return np.where(constant_labels, np.nan, np.where(constant_predictions, 0.0, scores))


def mean_score(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean over the targets that have a score, along the axis of the targets; NaN where none has."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    if known.all():
        return values.mean(axis=axis)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def score_record(values: np.ndarray, targets: Sequence[str]) -> dict[str, float]:
    """Scores (E,) as results.json holds them: `{"mean": …, target: …}`."""
    return {"mean": float(mean_score(values)), **dict(zip(targets, np.asarray(values).tolist(), strict=True))}


def constant_targets(shares: np.ndarray, targets: Sequence[str]) -> list[str]:
    """The targets whose shares (N, E) are one number on all clips."""
    return [target for target, same in zip(targets, is_constant(shares), strict=True) if same]


def remarks(
    predicted: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray], targets: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Remarks on the scores of partitions with labels; partitions without remark are left out.

    Args:
        predicted: partition → (N, E).
        true: partition → (N, E), for those with labels.
        targets: names of the E targets.

    Returns:
        `undefined`: partition → targets that the means leave out; `constant`: partition → targets that are predicted
        as one number, and scored 0.
    """
    by_kind: dict[str, dict[str, list[str]]] = {"undefined": {}, "constant": {}}
    for part, labels in true.items():
        without = constant_targets(labels, targets)
        same = [target for target in constant_targets(predicted[part], targets) if target not in without]
        for key, names in (("undefined", without), ("constant", same)):
            if names:
                by_kind[key][part] = names
    return by_kind


def count_text(noted: Mapping[str, Mapping[str, Sequence[str]]], part: str, targets: Sequence[str]) -> str:
    """`2 of 3 targets`, where the means of a partition leave some out; empty where they are over all.

    noted: of `remarks`.
    """
    without = noted.get("undefined", {}).get(part, ())
    return f"{len(targets) - len(without)} of {len(targets)} targets" if without else ""


def remark_lines(noted: Mapping[str, Mapping[str, Sequence[str]]], targets: Sequence[str]) -> list[str]:
    """The remarks as text, a line for each kind and partition."""
    lines = []
    for part, names in noted.get("undefined", {}).items():
        over = count_text(noted, part, targets)
        lines.append(f"{part}: means are over {over}; undefined, as all labels are equal: {', '.join(names)}")
    for part, names in noted.get("constant", {}).items():
        lines.append(f"{part}: constant predictions, one share for all clips, scored 0: {', '.join(names)}")
    return lines


def scc_ceiling(true: np.ndarray) -> np.ndarray:
    """The highest SCC that predictions without ties can reach with these labels: (N, E) → (E,).

        max r_s = √(1 − Σ (t³ − t) / (N³ − N))

    with t the sizes of the labels' groups of ties. Predictions that are ordered as the labels are have in each group
    the group's average rank as their mean, so that their covariance with the labels' ranks is the variance of these,
    and r_s the ratio of the two standard deviations; Σ (t³ − t) / 12 is what ties take from a variance of ranks
    (Kendall, Rank Correlation Methods, 1948). 1 without ties; for a target that a share p of many clips have whole,
    and the others not at all, √(3 p (1 − p)). NaN where the labels are constant.
    """
    clips = len(true)
    ties = [np.unique(column, return_counts=True)[1].astype(np.float64) for column in true.T]
    lost = np.array([(sizes**3 - sizes).sum() for sizes in ties])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(is_constant(true), np.nan, np.sqrt(1 - lost / (float(clips) ** 3 - clips)))
