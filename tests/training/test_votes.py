"""Votes as labels: read, kept and left out at random, by seed and epoch, through folds, variants and training again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from composed import config
from recipes import resumed_as_uninterrupted

from emoshare import compose, reporting
from emoshare.core.errors import EmoshareError
from emoshare.data import demo
from emoshare.data.corpus import load
from emoshare.data.partition import Corpus
from emoshare.metrics.ceiling import noise_ceiling
from emoshare.metrics.rank import SCC
from emoshare.reporting import label_tables
from emoshare.runs.predictions import read_shares
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.fusion import fuse
from emoshare.training.refit import join_partitions
from emoshare.training.train import train
from emoshare.training.votes import VoteDropout

CLIPS, RATERS = 48, 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("votes") / "demo"
    demo.generate(folder, CLIPS, 0, raters=RATERS)
    return folder


@pytest.fixture
def keys(root: Path, tmp_path: Path) -> list[str]:
    places = [f"data.root={root}", f"paths.outputs={tmp_path}/outputs", f"paths.cache={tmp_path}/cache"]
    corpus = ["data=demo_votes", f"data.clips={CLIPS}", f"data.raters={RATERS}", "backbone=logmel"]
    return [*places, *corpus, "window.seconds=1.5", "trainer.epochs=4", "trainer.progress=false", "logger=none"]


def corpus_of(keys: list[str], *more: str) -> Corpus:
    c = config(*keys, *more)
    return load(c.data, Path(c.paths.cache))


def table(root: Path, part: str, targets: tuple[str, ...]) -> np.ndarray:
    with (root / "lab" / f"{part}.csv").open() as file:
        return np.array([[int(row[target]) for target in targets] for row in csv.DictReader(file)])


def test_votes_are_kept_beside_their_shares(root: Path, keys: list[str]) -> None:
    for corpus in (corpus_of(keys), corpus_of(keys)):  # the second one from what is remembered of the first
        for name, part in corpus.partitions.items():
            votes = table(root, name, corpus.targets)
            assert (votes.sum(axis=1) == RATERS).all()
            np.testing.assert_array_equal(part.counts, votes)
            np.testing.assert_allclose(part.shares, votes / RATERS, atol=1e-7)
    sums = corpus_of(keys, "data.normalize=sum")
    assert sums.partitions["train"].counts is None
    assert sums.fingerprint != corpus.fingerprint
    folded = corpus_of(keys, "data.folds=3", "data.fold=1")
    both = join_partitions(folded).partitions["train"]
    for part in (*folded.partitions.values(), both):
        whole = np.concatenate([corpus.partitions[name].counts for name in ("train", "devel", "test")])
        np.testing.assert_array_equal(part.counts, whole[part.rows])


def test_votes_of_labels_that_come_later_are_kept(root: Path, keys: list[str], tmp_path: Path) -> None:
    lab = shutil.copytree(root, tmp_path / "later") / "lab"
    header, *rows = (lab / "test.csv").read_text().splitlines()
    (lab / "test.csv").write_text("\n".join(["filename", *(row.partition(",")[0] for row in rows)]))
    (lab / "test.unmasked.csv").write_text("\n".join([header, *reversed(rows)]))
    plain = corpus_of(keys)
    for _ in "read", "remembered":
        later = corpus_of([*keys, f"data.root={lab.parent}"])
        np.testing.assert_array_equal(later.partitions["test"].counts, table(root, "test", plain.targets))
        assert later.fingerprint == plain.fingerprint


@pytest.mark.parametrize(("cell", "words"), [("1.5", "a whole number of votes, of at least 0"), ("-1", "a whole numb")])
def test_what_is_no_vote_is_named(root: Path, keys: list[str], tmp_path: Path, cell: str, words: str) -> None:
    shutil.copytree(root, tmp_path / "bad")
    path = tmp_path / "bad" / "lab" / "devel.csv"
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, ",".join([first.split(",")[0], cell, *["1"] * 8]), *rest]))
    with pytest.raises(EmoshareError, match=f"devel.csv:2: Anger='{cell}' must be {words}"):
        corpus_of([*keys, f"data.root={tmp_path}/bad"])


def test_dropout_leaves_out_each_vote_with_its_chance_and_one_stays() -> None:
    counts = np.tile([[4, 1, 0], [1, 0, 0], [0, 3, 3]], (2000, 1))
    dropout = VoteDropout(counts, 0.4, seed=3)
    drawn = dropout.shares(0)
    np.testing.assert_allclose(drawn.sum(axis=1), 1, atol=1e-6)
    assert not drawn[counts == 0].any()
    np.testing.assert_array_equal(drawn, dropout.shares(0))
    assert (drawn != dropout.shares(1)).any()
    assert (drawn != VoteDropout(counts, 0.4, seed=4).shares(0)).any()
    for clip, votes in enumerate(counts[:3]):  # the mean over draws is the share of all votes: no emotion is favoured
        mean, error = drawn[clip::3].mean(axis=0), drawn[clip::3].std(axis=0) / np.sqrt(2000)
        assert (np.abs(mean - votes / votes.sum()) <= 4 * error + 1e-9).all()
    # of four votes and one, the one alone is left with chance 0.6 · 0.4⁴, or as the one that stays, 0.4⁵ / 5
    alone = (drawn[0::3, 1] == 1).mean()
    assert alone == pytest.approx(0.6 * 0.4**4 + 0.4**5 / 5, abs=0.01)


LOOP = ["backbone.cache=false", "data.workers=1", "trainer.precision=32-true"]  # other processes draw the labels


@pytest.mark.parametrize("more", [[], ["augment=[gain-6]"], [*LOOP, "window.crop=random"]])
def test_a_resumed_run_is_as_an_uninterrupted_one(
    keys: list[str], more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed_as_uninterrupted([*keys, "train.drop_votes=0.3", *more], monkeypatch)


def test_training_learns_from_other_labels_and_is_scored_on_all_votes(
    root: Path, keys: list[str], tmp_path: Path
) -> None:
    plain, dropped = config(*keys), config(*keys, "train.drop_votes=0.5", "train.refit=true")
    runs = [ResolvedRun(c).run for c in (plain, dropped)]
    results = [train(c) for c in (plain, dropped)]
    assert results[0].metrics["devel"] != results[1].metrics["devel"]
    for run in runs:
        names = [*results[0].targets, "votes"]
        values = read_shares(run.folder / "reference" / "devel.csv", names)[1]
        votes = table(root, "devel", tuple(results[0].targets))
        np.testing.assert_array_equal(np.rint(values[:, :-1] * values[:, -1:]), votes)
    fuse([run.folder for run in runs], tmp_path / "fused")
    for folders in ([runs[0].folder], [tmp_path / "fused"]):
        table_of = label_tables.ceiling(reporting.build(folders, 20))
        wanted = noise_ceiling(table(root, "devel", tuple(results[0].targets)), [SCC], 20, None)["scc"]
        (record,) = [row for row in table_of.records if (row["partition"], row["metric"]) == ("devel", "scc")]
        assert record["halves_value"] == wanted.halves.value
        assert record["ceiling_value"] == wanted.attainable.value
        assert record["ceiling_low"] <= record["ceiling_value"] <= record["ceiling_high"]


def test_without_votes_there_are_none_to_leave_out() -> None:
    with pytest.raises(EmoshareError, match=r"train.drop_votes=0.2: there are no votes .* data.normalize=votes"):
        compose("data.root=/corpus", "backbone=logmel", "train.drop_votes=0.2")
    with pytest.raises(EmoshareError, match="votes is a column of the run's own tables"):
        compose("data.root=/corpus", "backbone=logmel", "data.normalize=votes", "data.targets=[votes,other]")
