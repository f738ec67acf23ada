"""`export --to transformers`: transformers' own pipeline predicts what the run predicts, or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest
import soundfile

import emoshare as package

LINEAR = ["experiment=linear", "window.seconds=1", "trainer.epochs=2", "trainer.precision=32-true"]


def train(corpus: Path, *keys: str) -> Path:
    plain = [
        "data=compare23",
        f"data.root={corpus}",
        "logger=none",
        "trainer.progress=false",
        "extract.compute=float32",
    ]
    results = package.train(*plain, *keys)
    return Path("outputs", results.sweep, results.run)


def by_path(folder: Path, family: str) -> list[str]:
    config = checkpoints.write(folder, family)
    return [f"backbone={'hubert' if 'hubert' in family else 'wav2vec2'}_base", f"backbone.path={folder}",
            f"backbone.dim={config.dim}", f"backbone.layers={config.layers}", "backbone.parameters=null",
            f"backbone.conv_norm={config.conv_norm}"]  # fmt: skip


def check(run: Path, clip: Path, folder: Path) -> dict[str, float]:
    """What transformers says of a clip, which is what the run says."""
    from transformers import pipeline

    from emoshare.inference.export.forms import export_model

    assert export_model(run, "transformers", folder).error < 1e-6
    wave, rate = soundfile.read(clip, dtype="float32")
    assert rate == 16_000
    wave = wave[: 400 + 320 * 20]
    told = pipeline("audio-classification", model=str(folder), device="cpu")(wave, top_k=None)
    found = {each["label"]: each["score"] for each in told}
    expected = package.load(run, device="cpu").predict(wave, rate=16_000)
    assert found == pytest.approx(expected, abs=1e-3)  # the run's own frames are rounded
    return found


@pytest.fixture
def clip(corpus_root, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return sorted((corpus_root / "wav").iterdir())[0]


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "linear"])
def test_a_linear_head_is_one_of_transformers(output, corpus_root, clip, tmp_path) -> None:
    run = train(corpus_root, *LINEAR, "backbone=tiny", f"head.output={output}", "backbone.layer=weighted")
    check(run, clip, tmp_path / "native")
    config = json.loads((tmp_path / "native/config.json").read_text())
    assert config["architectures"][0].endswith("ForSequenceClassification")
    assert [config["id2label"][str(n)] for n in range(9)] == package.load(run).results.targets
    assert (tmp_path / "native/model.safetensors").is_file()
    check(run, clip, tmp_path / "native")  # in its own place


@pytest.mark.parametrize("family", ["wav2vec2_group", "hubert"])
def test_encoders_of_the_hub(family, corpus_root, clip, tmp_path) -> None:
    check(train(corpus_root, *LINEAR, *by_path(tmp_path / "checkpoint", family)), clip, tmp_path / "native")


def test_a_trained_backbone_goes_along(corpus_root, clip, tmp_path) -> None:
    keys = ["backbone=tiny", "backbone.frozen=false", "optimizer.backbone_lr=1e-3"]
    plain = [key for key in LINEAR if "compute" not in key]
    results = package.train(
        "data=compare23", f"data.root={corpus_root}", "logger=none", "trainer.progress=false", *plain, *keys
    )
    check(Path("outputs/linear", results.run), clip, tmp_path / "native")


REFUSED = {
    "head.hidden=8": "its head is no single linear layer on the mean of frames (experiment=linear trains one)",
    "head.pooling=attention": "its head is no single linear layer",
    "window=paper": "its clips are filled with zeros, which transformers does not do (window=native trains without)",
    "backbone.layer=1": "transformers' head takes no layer before the final norm of tiny; use backbone.layer=last or",
    "backbone=logmel": "transformers has no class of it with a head on the mean of frames of backbone=logmel",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_transformers_has_no_model_for_is_said(key, emoshare, corpus_root, clip, tmp_path) -> None:
    backbone = [] if key.startswith("backbone=") else ["backbone=tiny"]
    run = train(corpus_root, *LINEAR[:1], *LINEAR[2:], *backbone, key, "window.seconds=1")
    told = emoshare("export", str(run), "--to", "transformers", str(tmp_path / "native"))
    assert told.status == 1
    assert f"{run.name}: {REFUSED[key]}" in told.err
    assert not (tmp_path / "native").exists()


def test_places_that_are_taken_are_kept(emoshare, corpus_root, clip, tmp_path) -> None:
    run = train(corpus_root, *LINEAR, "backbone=tiny")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("mine")
    told = emoshare("export", str(run), "--to", "transformers", str(tmp_path / "full"))
    assert "full: holds something else than a model that emoshare exported; name another folder" in told.err
    for _ in range(2):
        assert emoshare("export", str(run), "--to", "transformers", str(tmp_path / "new")).status == 0
    (tmp_path / "new/.git").mkdir()
    told = emoshare("export", str(run), "--to", "transformers", str(tmp_path / "new"))
    assert "new: holds more than the exported model, as .git, which would go with it" in told.err
    assert (
        "name the folder to write, as in --to transformers my-model"
        in emoshare("export", str(run), "--to", "transformers").err
    )
