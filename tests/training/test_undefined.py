"""A fold whose speaker never shows an emotion, from training to the report; labels that are classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from composed import config
from recipes import epochs

from emoshare import reporting
from emoshare.core.config import Config
from emoshare.reporting import class_tables, page
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.sweep import Cell, cell_table
from emoshare.training import progress
from emoshare.training.train import summary, train

TARGETS = ("Anger", "Boredom", "Calmness")


def write(source: Path, root: Path, one_hot: bool = False) -> list[str]:
    """Overrides of runs on a corpus whose first speaker, a fold of their own by `who`, never shows Anger."""
    (root / "lab").mkdir(parents=True)
    (root / "wav").symlink_to(source / "wav")
    with (source / "demo.csv").open() as handle:
        who = {row["filename"]: row["speaker"] for row in csv.DictReader(handle)}
    for part in ("train", "devel"):
        with (source / f"lab/{part}.csv").open() as handle, (root / f"lab/{part}.csv").open("w") as out:
            writer = csv.writer(out)
            writer.writerow(["filename", "speaker", "who", *TARGETS])
            for row in csv.DictReader(handle):
                name = who[row["filename"]]
                shares = np.array([float(row[target]) for target in TARGETS])
                if one_hot:
                    shares = np.eye(3)[shares.argmax()]
                elif name == min(who.values()):
                    shares[0] = 0
                side = "first" if name == min(who.values()) else f"others {int(name[-1]) % 2}"
                writer.writerow([row["filename"], name, side, *shares])
    return [
        "data=csv", f"data.root={root}", f"data.targets=[{','.join(TARGETS)}]", "data.train=lab/train.csv",
        "data.devel=lab/devel.csv", "data.groups=[speaker]", "backbone=logmel", "window.seconds=1", "logger=none",
        "trainer.epochs=6", "trainer.progress=false", "trainer.accelerator=cpu", "optimizer.lr=0.01",
        f"paths.outputs={root}/outputs", f"paths.cache={root}/cache",
    ]  # fmt: skip


def averages(run: Run) -> list[float]:
    """Devel Avg of each epoch, from the scores of the targets that have one."""
    columns = [epochs(run, f"emotions/{metric}/{target}") for metric in ("scc", "ccc") for target in TARGETS[1:]]
    return np.mean(columns, axis=0).tolist()


@pytest.mark.parametrize("more", [[], ["train.patience=2", "train.refit=true"]], ids=["plain", "patience and refit"])
def test_the_epoch_is_chosen_by_the_targets_that_are_defined(
    corpus_root: Path, tmp_path: Path, more: list[str]
) -> None:
    settings = config(*write(corpus_root, tmp_path / "c"), "data.folds=who", "data.fold=0", *more)
    results, run = train(settings), ResolvedRun(settings).run
    found = averages(run)
    assert epochs(run, "devel/avg") == pytest.approx(found, abs=1e-6)
    assert results.best.epoch == int(np.argmax(found))
    assert np.isfinite(results.best.score)
    stored = json.loads(run.results_path.read_text())
    assert stored["metrics"]["devel"]["scc"]["Anger"] is None
    assert stored["remarks"]["undefined"] == {"devel": ["Anger"]}
    text = summary(results, run.folder)
    assert "(2 of 3 targets)" in text
    assert "undefined, as all labels are equal: Anger" in text
    assert "(2 of 3 targets)" in progress.finished_line(ResolvedRun(settings), None, results)
    table = cell_table([Cell({}, (results,))])
    assert f"{results.score('devel', 'avg'):.4f}*" in table
    assert "*: the mean leaves out" in table


def test_the_report_names_the_fold(corpus_root: Path, tmp_path: Path) -> None:
    base = [*write(corpus_root, tmp_path / "c"), "data.folds=who", "trainer.epochs=1"]
    for fold in range(3):
        train(config(*base, f"data.fold={fold}"))
    report = reporting.build([tmp_path / "c/outputs"], 20)
    said = [text for text in page.warnings(report) if "undefined" in text]
    assert said == ["Fold 0: chosen by the mean over 2 of 3 targets; undefined there, as all labels are equal: Anger."]


def test_classes_are_scored_as_such(corpus_root: Path, tmp_path: Path) -> None:
    settings: Config = config(*write(corpus_root, tmp_path / "c", one_hot=True), "trainer.epochs=1")
    results = train(settings)
    told = results.classes["devel"]
    assert np.sum(told.confusion) == results.corpus.clips["devel"]
    assert told.accuracy == pytest.approx(np.trace(told.confusion) / np.sum(told.confusion))
    text = summary(results, ResolvedRun(settings).run.folder)
    assert "devel SCC ≤" in text
    assert f"devel: accuracy {told.accuracy:.3f}, UAR {told.uar:.3f} (a guess: 0.333)" in text
    report = reporting.build([tmp_path / "c/outputs"], 20)
    assert class_tables.classes(report).records[0]["accuracy_mean"] == pytest.approx(told.accuracy)
