"""Variants of clips in training: rows of the store, the clip's own labels, train alone."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from composed import config, on_cpu
from recipes import resumed_as_uninterrupted, settings_of, table

from emoshare.backbones.concat import extractor_of
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check
from emoshare.data import audio
from emoshare.data.corpus import load
from emoshare.data.window import Window
from emoshare.inference.model import load_model
from emoshare.models.functionals import pool
from emoshare.runs.identity import identify
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import classical, source
from emoshare.training.train import train

transforms = importlib.import_module("torchaudio.transforms")  # after emoshare, which makes it importable

CPU = torch.device("cpu")
AUGMENT = "augment=[speed0.9,gain-6]"


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    return [*settings_of(corpus_root, tmp_path), "trainer.epochs=3"]


def test_further_rows_hold_the_frames_of_the_variants_made_by_hand(settings: list[str]) -> None:
    c = config(*settings, AUGMENT, "window=native", "window.seconds=1.5", "window.crop=center")
    corpus = load(c.data, Path(c.paths.cache))
    opened = source.open(on_cpu(c))
    assert opened.store is not None
    part = corpus.partitions["train"]
    count, extended = len(part.files), opened.augment(part)
    assert len(opened.store.lengths) == len(corpus.files) + 2 * count
    assert extended.files == part.files * 3
    assert extended.shares is not None
    np.testing.assert_array_equal(extended.shares, np.concatenate([part.shares] * 3))
    extractor, window = extractor_of(c.frames, CPU, Path(c.paths.cache)), Window.of(c.window)

    def slower(wave: torch.Tensor) -> torch.Tensor:
        made = soxr.resample(wave.numpy(), 9, 10, "HQ")
        return torch.from_numpy(np.pad(made, (0, -(-len(wave) * 10 // 9) - len(made))))

    makers = [lambda w: w, slower, transforms.Vol(-6, "db")]
    for place in (0, count - 1, count, count + 3, 2 * count, 3 * count - 1):
        wave = torch.from_numpy(audio.read(corpus.path(extended.files[place])))
        seen = torch.from_numpy(window.cut(makers[place // count](wave).numpy()))[None]
        expected, counts = extractor(seen, torch.tensor([seen.shape[1]]))
        frames, lengths = opened.store.gather(extended.rows[place : place + 1])
        assert lengths.tolist() == counts.tolist()
        torch.testing.assert_close(frames[0], expected[0].half(), atol=1e-3, rtol=1e-3)  # a step of float16
    assert opened.augment(corpus.partitions["train"]).rows[:count].tolist() == part.rows.tolist()


@pytest.mark.parametrize("refit", ["false", "true"])
def test_a_resumed_run_is_as_an_uninterrupted_one(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, refit: str
) -> None:
    more = [AUGMENT, f"train.refit={refit}"]
    resumed_as_uninterrupted([*settings, *more], monkeypatch)


def test_a_trained_run_predicts_what_it_wrote_without_variants(settings: list[str]) -> None:
    plain, c = config(*settings), config(*settings, AUGMENT)
    train(plain)
    train(c)
    run, corpus = ResolvedRun(c).run, load(c.data, Path(c.paths.cache))
    assert not np.allclose(table(run, "test"), table(ResolvedRun(plain).run, "test"), atol=1e-3)
    files = [str(corpus.path(file)) for file in corpus.partitions["test"].files]
    np.testing.assert_allclose(load_model(run.folder, "cpu").predict(files).values, table(run, "test"), atol=2e-5)


def test_an_svr_learns_from_the_variants(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    c = config(*settings, AUGMENT, "head=svr", "head.grid=[0.01]", "head.scalers=[standard]")
    corpus, seen = load(c.data, Path(c.paths.cache)), []
    search, refit = classical.search, classical.refit
    monkeypatch.setattr(classical, "search", lambda *a: seen.extend(a[:2]) or search(*a))
    monkeypatch.setattr(classical, "refit", lambda *a: seen.append(a[0]) or refit(*a))
    train(c)
    sizes = [len(corpus.partitions[name].files) for name in ("train", "devel")]
    assert [len(split.features) for split in seen] == [3 * sizes[0], sizes[1], 3 * sum(sizes)]
    store = source.open_store(on_cpu(c))
    frames, lengths = store.gather(corpus.partitions["train"].rows[:1])
    np.testing.assert_array_equal(seen[0].features[0], pool(frames, lengths, "mean_std")[0].numpy())
    np.testing.assert_array_equal(seen[0].shares[: sizes[0]], seen[0].shares[sizes[0] : 2 * sizes[0]])


def test_the_identity_changes_with_the_variants_alone(settings: list[str]) -> None:
    def counted(*more: str) -> dict[str, object]:
        return identify(config(*settings, *more), "corpus", {})["config"]

    assert "augment" not in counted()
    assert counted(AUGMENT) == counted() | {"augment": ["speed0.9", "gain-6"]}


@pytest.mark.parametrize(("normalize", "lines"), [("checkpoint", 1), ("none", 0)])
def test_a_gain_of_normalised_samples_is_said_to_change_nothing(
    settings: list[str], caplog: pytest.LogCaptureFixture, normalize: str, lines: int
) -> None:
    c = config(*settings, "backbone=tiny", "backbone.normalize=true", f"window.normalize={normalize}", AUGMENT)
    source.open(on_cpu(c))
    assert caplog.text.count("augment: gain-6 changes no frame of tiny") == lines


def test_mistakes_are_told_at_once(settings: list[str]) -> None:
    with pytest.raises(EmoshareError) as error:
        check(config(*settings, "augment=[speed9,echo]", "backbone.cache=false", "seed=-1"))
    assert all(word in str(error.value) for word in ("augment: speed9", "augment: echo", "backbone.cache", "seed=-1"))
