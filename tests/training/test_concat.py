"""Several backbones at once: their frames side by side, shared with runs of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_mel
from composed import on_cpu
from recipes import settings_of, table

from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import load
from emoshare.inference.export.forms import export_model
from emoshare.inference.model import load_model
from emoshare.inference.stored import predict_stored
from emoshare.models.joining import join
from emoshare.runs.identity import identify
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import source
from emoshare.training.train import train

CPU = torch.device("cpu")
PARTS = ["backbone=concat", "backbone.parts=[tiny,logmel]"]


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    plain = [line for line in settings_of(corpus_root, tmp_path) if not line.startswith("backbone=")]
    return [*plain, "extract.compute=float32", "trainer.epochs=3"]


def read_by(head: str, settings: list[str]) -> list[str]:
    """The settings without what an SVR does not read."""
    vain = ("trainer.epochs=", "trainer.precision=") if head == "svr" else ()
    return [line for line in settings if not line.startswith(vain)]


def frames_of(config: Config) -> Any:
    store = source.open_store(on_cpu(config))
    rows = np.arange(len(store.lengths))
    return store, [store.gather(rows[n : n + 1])[0][0] for n in rows]


def by_hand(parts: list[list[torch.Tensor]], normalized: bool) -> list[torch.Tensor]:
    """Joined frames of every clip, by loops over clips and frames in float64."""
    joined = []
    for clip in zip(*parts, strict=True):
        wanted = min((len(frames) for frames in clip if len(frames) > 1), default=1)
        rows = []
        for t in range(wanted):
            row = []
            for frames in clip:
                frame = frames[int((t + 0.5) * len(frames) / wanted)].double()
                if normalized:
                    frame = (frame - frame.mean()) / (frame.var(unbiased=False) + 1e-5).sqrt()
                row.append(frame)
            rows.append(torch.cat(row))
        joined.append(torch.stack(rows))
    return joined


@pytest.mark.parametrize(("head", "window"), [("mlp", "paper"), ("svr", "native")])
def test_joined_frames_are_those_of_the_parts_side_by_side(settings: list[str], head: str, window: str) -> None:
    more = [f"head={head}", f"window={window}", "window.seconds=1"]
    settings = read_by(head, settings)
    alone = [frames_of(compose_one([*settings, f"backbone={name}", *more])) for name in ("tiny", "logmel")]
    store, frames = frames_of(compose_one([*settings, *PARTS, *more]))
    assert not store.computed  # the frames of the parts are those of runs of one backbone
    assert store.recipe.backbone["parts"] == [part.recipe.backbone for part, _ in alone]
    for found, expected in zip(frames, by_hand([part for _, part in alone], head == "mlp"), strict=True):
        torch.testing.assert_close(found.double(), expected, atol=2e-6 if head == "mlp" else 0, rtol=0)


@pytest.mark.parametrize(("head", "window"), [("mlp", "paper"), ("mlp", "native"), ("svr", "native")])
def test_a_trained_run_predicts_what_it_wrote(settings: list[str], head: str, window: str) -> None:
    more = [f"head={head}", f"window={window}", "window.seconds=1"]
    config = compose_one([*read_by(head, settings), *PARTS, *more])
    assert (config.backbone.name, config.backbone.dim) == ("tiny+logmel", 144)
    results = train(config)
    assert results.backbone.dim == 144
    run, corpus = ResolvedRun(config).run, load(config.data, Path(config.paths.cache))
    model = load_model(run.folder, "cpu")
    files = [str(corpus.path(file)) for file in corpus.partitions["test"].files]
    np.testing.assert_allclose(model.predict(files).values, table(run, "test"), atol=2e-5)
    stored = predict_stored(model, list(map(Path, files))).table.values
    np.testing.assert_allclose(stored, table(run, "test"), atol=1e-6)  # the same frames, in other batches
    assert model.embed(files[0]).values.shape == (1, 144)
    assert np.isfinite(model.explain(files[0], stretch=0.5).shares).all()


def test_a_run_is_known_by_its_parts(settings: list[str]) -> None:
    def identity(*parts: str) -> dict[str, Any]:
        config = compose_one([*settings, "backbone=concat", f"backbone.parts=[{','.join(parts)}]"])
        return identify(config, "corpus", {"parts": []})

    plain = identity("tiny", "logmel")
    assert plain == identity("{name: tiny, licence: other}", "{name: logmel}")
    assert plain != identity("logmel", "tiny")
    layered = compose_one([*settings, "backbone=concat", "backbone.parts=[{name: tiny, layer: 1},logmel]"])
    assert layered.backbone.name == "tiny_layer1+logmel"
    assert plain != identity("{name: tiny, layer: 1}", "logmel")


def test_every_mistake_of_the_parts_is_told(settings: list[str]) -> None:
    with pytest.raises(EmoshareError) as error:
        compose_one([*settings, "backbone=concat", "backbone.parts=[hubert_lage,/nowhere/x,tiny]", "window.seconds=-1"])
    text = str(error.value)
    assert "hubert_lage: no such backbone" in text
    assert "did you mean" in text
    assert "/nowhere/x" in text
    assert "window.seconds=-1" in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["backbone.parts=[tiny]"], "at least two backbones"),
        ([*PARTS[1:], "backbone.layer=weighted"], "backbone.layer=weighted: is read with .* here it is concat"),
        ([*PARTS[1:], "backbone.frozen=false"], "backbone.parts: stored frames are joined"),
        ([*PARTS[1:], "backbone.cache=false"], "backbone.cache=false"),
        (["backbone.parts=[tiny,{name: logmel, layer: 7}]"], "layer=7: no such key of logmel"),
        (["backbone.parts=[tiny,{name: tiny, layer: weighted}]"], "tiny: layer must be last or an index"),
        (["backbone.parts=[tiny,{name: tiny, frozen: false}]"], "tiny: frozen must not be False"),
    ],
)
def test_parts_that_cannot_be_joined(settings: list[str], overrides: list[str], words: str) -> None:
    with pytest.raises(EmoshareError, match=words):
        compose_one([*settings, "backbone=concat", *overrides])


def test_no_parts_are_one_mistake(settings: list[str]) -> None:
    with pytest.raises(EmoshareError, match=r"^backbone\.parts: name at least two backbones$"):
        compose_one([*settings, "backbone=concat"])


def test_frames_of_the_clip_alone_are_not_joined_with_those_of_the_padding(settings: list[str]) -> None:
    parts = ["backbone=concat", "backbone.parts=[logmel,prosody]", "window.seconds=1"]
    with pytest.raises(EmoshareError, match=r"window\.pad=zeros: logmel has frames of the zeros"):
        frames_of(compose_one([*settings, *parts]))
    store, frames = frames_of(compose_one([*settings, *parts, "window=native", "window.seconds=1"]))
    assert {frame.shape[1] for frame in frames} == {store.recipe.width}


def test_joined_frames_have_variants_and_a_repeated_vector(settings: list[str]) -> None:
    pytest.importorskip("opensmile")
    parts = ["{name: opensmile, feature_set: eGeMAPSv02, dim: 88}", "logmel"]
    more = ["window=native", "window.seconds=1", "head=svr", "augment=[speed1.1]"]
    config = compose_one([*settings, "backbone=concat", f"backbone.parts=[{','.join(parts)}]", *more])
    assert config.backbone.dim == 168
    corpus = load(config.data, Path(config.paths.cache))
    opened = source.open(on_cpu(config))
    assert opened.store is not None
    train_part = corpus.partitions["train"]
    rows = opened.augment(train_part).rows
    both = len(train_part.files) + len(corpus.partitions["devel"].files)
    assert len(opened.store.lengths) == len(corpus.files) + both
    frames, lengths = opened.store.gather(rows[-3:])
    assert lengths.min() > 1
    for clip, count in zip(frames, lengths.tolist(), strict=True):
        assert (clip[:count, :88] == clip[0, :88]).all()  # the vector of the clip stands in all of its frames
        assert (clip[:count, 88:].std(0) > 0).all()
        assert not clip[count:].any()


def test_a_part_with_twice_the_frames_gives_every_second_one() -> None:
    fast, slow = torch.arange(12.0).reshape(1, 6, 2), torch.arange(3.0).reshape(1, 3, 1)
    frames, counts = join([(fast, torch.tensor([6])), (slow, torch.tensor([3]))], normalized=False)
    assert counts.tolist() == [3]
    assert frames[0].tolist() == [[2, 3, 0], [6, 7, 1], [10, 11, 2]]


def test_a_run_on_several_backbones_is_not_exported(settings: list[str], tmp_path: Path) -> None:
    config = compose_one([*settings, *PARTS, "trainer.epochs=1"])
    train(config)
    for to in ("onnx", "hub"):
        with pytest.raises(EmoshareError, match=r"several backbones \(concat\) cannot be exported"):
            export_model(ResolvedRun(config).run.folder, to, tmp_path / f"out.{to}")


def test_a_part_by_its_path_has_the_frames_of_auto(settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "my-whisper"
    write_mel(folder, "whisper_encoder")
    more = ["window=native", "window.seconds=1.03"]
    alone = [compose_one([*settings, *more, "backbone=auto", f"backbone.path={folder}"])]
    alone.append(compose_one([*settings, *more, "backbone=tiny"]))
    stores = [frames_of(config) for config in alone]
    joined = compose_one([*settings, *more, "backbone=concat", f"backbone.parts=[{folder},tiny]"])
    assert joined.backbone.name == "my-whisper+tiny"
    store, frames = frames_of(joined)
    assert not store.computed
    for found, expected in zip(frames, by_hand([part for _, part in stores], True), strict=True):
        torch.testing.assert_close(found.double(), expected, atol=5e-6, rtol=0)
    train(joined)
    assert load_model(ResolvedRun(joined).run.folder, "cpu").config.backbone.parts == joined.backbone.parts
