"""The table of what each choice is worth, held against a bootstrap that is written out."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from scipy.stats import spearmanr

from emoshare import reporting
from emoshare.reporting import choices, page

CLIPS = 120


def folder(root: Path, reference: str | None = "full") -> Path:
    """Two backbones with two seeds each: the full system, one that is clearly worse, one that differs by noise."""
    keys = {"sweep__reference": reference}
    for backbone, level in (("hubert_large", 0.6), ("wavlm_large", 0.7)):
        for seed in (0, 1):
            for row, quality, epochs in (("full", level, 30), ("without x", level - 0.3, 20), ("without y", level, 10)):
                config = fakes.config(backbone, seed=seed, sweep__row=row, trainer__epochs=epochs, **keys)
                fakes.run(root / f"{backbone}-{row}-{seed}", config, quality, CLIPS, noise=epochs)
    return root


def test_differences_are_paired_and_from_the_same_backbones_reference(tmp_path: Path) -> None:
    root = folder(tmp_path / "s")
    report = reporting.build([root], 400)
    [table] = choices.tables_of_choices(report)
    found = {(record["backbone"], record["row"]): record for record in table.records}
    assert len(found) == 6
    assert [row[1].text for row in table.rows][::3] == ["full"] * 2
    assert [row[1].bold for row in table.rows] == [True, False, False] * 2
    record = found["hubert_large", "without x"]
    runs = {run.folder.name: run for run in report.study.runs}
    pairs = [[report.study.predictions(runs[f"hubert_large-{row}-{seed}"], "test") for seed in (0, 1)]
             for row in ("without x", "full")]  # fmt: skip
    true = report.study.labels["test"].shares

    def gap(rows: np.ndarray) -> float:
        scores = [
            [np.mean([spearmanr(shares[rows, e], true[rows, e]).statistic for e in range(9)]) for shares in pair]
            for pair in pairs
        ]
        return float(np.mean(scores[0]) - np.mean(scores[1]))

    assert record["test_scc_difference"] == pytest.approx(gap(np.arange(CLIPS)), abs=1e-9)
    rng = np.random.default_rng(3)
    low, high = np.percentile([gap(rng.integers(CLIPS, size=CLIPS)) for _ in range(200)], [2.5, 97.5])
    assert record["test_scc_low"] == pytest.approx(low, abs=0.03)
    assert record["test_scc_high"] == pytest.approx(high, abs=0.03)
    assert record["devel_avg_high"] < 0
    same = found["hubert_large", "without y"]
    assert same["devel_avg_low"] < 0 < same["devel_avg_high"]
    assert found["hubert_large", "full"]["devel_avg_difference"] == 0
    page.save(report, tmp_path / "report")
    assert "What each choice is worth" in (tmp_path / "report/index.html").read_text()
    assert "without x" in (tmp_path / "report/tables/choices.csv").read_text()


def test_a_fusion_stands_below_against_the_best_reference(tmp_path: Path) -> None:
    root = folder(tmp_path / "s")
    members = [root / f"{name}-full-0" for name in ("hubert_large", "wavlm_large")]
    fakes.fusion(root / "fusion", members, 0.9, clips=CLIPS)
    report = reporting.build([root], 50)
    [table] = choices.tables_of_choices(report)
    last = table.records[-1]
    full = {r["backbone"]: r for r in table.records if r["row"] == "full"}
    assert last["backbone"] == "Fusion of 2 runs"
    assert last["devel_avg_difference"] == pytest.approx(last["devel_avg"] - full["wavlm_large"]["devel_avg"])


def test_without_a_reference_there_is_no_table(tmp_path: Path) -> None:
    assert choices.tables_of_choices(reporting.build([folder(tmp_path / "a", None)], 10)) == []
    assert choices.tables_of_choices(reporting.build([folder(tmp_path / "b", "nothing")], 10)) == []
