"""Balanced sampling: chances by their definition, draws by seed and epoch, resumed, and part of what a run is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from composed import config
from recipes import resumed_as_uninterrupted, settings_of, table

from emoshare import compose
from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import load
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.augment import Augmentation
from emoshare.training.datamodule import Clips
from emoshare.training.sampling import Balanced, group_chances, target_chances, train_chances
from emoshare.training.train import train


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    return [*settings_of(corpus_root, tmp_path), "data.groups=[speaker,sex]", "data.metadata=demo.csv"]


def test_each_target_is_drawn_as_often_and_clips_by_their_share_of_it() -> None:
    one_hot = np.eye(3)[[0] * 90 + [1] * 9 + [2]]
    assert one_hot.T @ target_chances(one_hot) == pytest.approx([1 / 3] * 3)
    shares = np.random.default_rng(0).dirichlet([5, 1, 0.2], 200) * [1, 1, 1]
    chances = target_chances(np.column_stack([shares, np.zeros(200)]))  # the last one occurs in no clip
    wanted = np.mean([shares[:, e] / shares[:, e].sum() for e in range(3)], axis=0)
    np.testing.assert_allclose(chances, wanted, atol=1e-12)
    assert chances.sum() == pytest.approx(1)
    cells = np.array(["f"] * 30 + ["m"] * 6 + [""] * 4)
    chances = group_chances(cells)
    assert [chances[cells == value].sum() for value in ("f", "m", "")] == pytest.approx([1 / 3] * 3)


def test_draws_depend_on_seed_and_epoch_alone_and_follow_the_chances(settings: list[str]) -> None:
    c = config(*settings)
    clips = Clips(load(c.data, Path(c.paths.cache)).partitions["train"])
    chances = np.arange(len(clips)) / np.arange(len(clips)).sum()
    sampler = Balanced(clips, 3, chances)
    drawn = []
    for epoch in range(400):
        sampler.set_epoch(epoch)
        drawn.append(list(sampler))
    assert {len(epoch) for epoch in drawn} == {len(clips)}
    sampler.set_epoch(7)
    assert list(sampler) == drawn[7] != drawn[8]
    assert list(Balanced(clips, 4, chances)) != drawn[7]
    counts = np.bincount(np.concatenate(drawn), minlength=len(clips)) / (400 * len(clips))
    np.testing.assert_allclose(counts, chances, atol=0.01)


def test_variants_have_the_chances_of_their_clips_also_in_folds(settings: list[str]) -> None:
    c = config(*settings, "augment=[gain-6,gain3]", "data.folds=3", "data.fold=1")
    resolved = ResolvedRun(c)
    corpus, augmentation = resolved.corpus, Augmentation.of(resolved)
    assert augmentation
    alone = train_chances(corpus, "sex")
    corpus.partitions["train"] = augmentation.extend(corpus.partitions["train"])
    np.testing.assert_allclose(train_chances(corpus, "sex"), np.tile(alone, 3) / 3)
    assert train_chances(corpus, "targets").sum() == pytest.approx(1)


@pytest.mark.parametrize("balance", ["targets", "speaker"])
def test_a_resumed_run_is_as_an_uninterrupted_one(
    settings: list[str], balance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["sampler=balanced", f"balance={balance}", "train.refit=true"]
    run = resumed_as_uninterrupted([*settings, *more], monkeypatch)[0]
    plain = config(*settings, "train.refit=true")
    train(plain)
    assert (table(run, "test") != table(ResolvedRun(plain).run, "test")).any()


def test_the_groups_that_balance_a_run_are_part_of_what_it_is(
    settings: list[str], corpus_root: Path, tmp_path: Path
) -> None:
    import shutil

    def name(*more: str, root: Path = corpus_root) -> str:
        return ResolvedRun(config(*settings, f"data.root={root}", *more)).run.name

    asked = ("sampler=balanced", "balance=sex")
    shutil.copytree(corpus_root, tmp_path / "other")
    people = tmp_path / "other" / "demo.csv"
    people.write_text(people.read_text().replace("train0,Avalon,male", "train0,Avalon,female"))
    assert name() == name(root=tmp_path / "other")
    assert name(*asked) != name(*asked, root=tmp_path / "other")
    assert len({name(), name("sampler=balanced"), name(*asked)}) == 3


def test_an_unknown_column_is_named(settings: list[str]) -> None:
    with pytest.raises(EmoshareError, match=r"balance=sexx: must be one of targets, speaker, sex.*'sex'"):
        compose(*settings, "sampler=balanced", "balance=sexx")
