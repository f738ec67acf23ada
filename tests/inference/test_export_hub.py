"""An exported folder gives the run's shares, names nothing of this machine, and says on its card what the model is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import emotion2vec
import numpy as np
import pytest
import soundfile
import yaml
from fakes import concordance, spearman

import emoshare as package
from emoshare.backbones import writing
from emoshare.backbones.auto import settle
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.inference.export import hub
from emoshare.inference.export.check import trials
from emoshare.inference.page.server import describe

COMMIT = "c" * 40


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def runs(corpus_root, place) -> Iterator[dict[str, Path]]:
    """Runs whose backbones come from everywhere: a hub's cache, a folder, training, nothing at all; and a fusion."""
    from huggingface_hub import constants

    from emoshare.training.fusion import fuse

    base = [
        "data=compare23", f"data.root={corpus_root}", "window.seconds=1", "logger=none",
        "trainer.progress=false",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(constants, "HF_HUB_CACHE", str(place / "cached"))
        local = checkpoints.write(place / "own/wavlm", "wavlm")
        legacy = checkpoints.write(place / "own/legacy", "legacy")
        cached = place / "cached/models--some--hubert"
        shutil.copytree(checkpoints.write(place / "own/hubert", "hubert").path, cached / "snapshots" / COMMIT)
        (cached / "refs").mkdir()
        (cached / "refs/main").write_text(COMMIT)

        def train(config, *more: str) -> Path:
            keys = ["name", "path", "type", "dim", "layers", "conv_norm"] if config else []
            backbone = [f"backbone.{key}={getattr(config, key)}" for key in keys]
            chosen = ["backbone=tiny", "backbone.parameters=null", "backbone.normalize=null"]
            epochs = [] if "head=svr" in more else ["trainer.epochs=1"]  # an SVR has none
            results = package.train(*base, *(chosen if config else []), *backbone, *epochs, *more)
            return Path("outputs/default", results.run).absolute()

        family = checkpoints.FAMILIES["hubert"]
        funasr = settle(emotion2vec.write(place / "own/emotion2vec"), WindowConfig(pad="none"))
        named = type(local)("hubert", "some/hubert", type=family.type, dim=32, layers=3, conv_norm="layer")
        found = {
            "hub": train(named),
            "folder": train(local, "backbone.layer=2", "window.pad=none"),
            "pickled": train(legacy, "backbone.layer=weighted"),
            "funasr": train(funasr, "window=native"),
            "trained": train(named, "backbone.frozen=false", "backbone.specaugment=true", "optimizer.backbone_lr=0.01"),
            "svr": train(None, "backbone=prosody", "head=svr", "window=native", "head.grid=[0.01]"),
        }
        fused = fuse([found["trained"], found["svr"], found["hub"]], place / "outputs/fused", [1, 2, 3])
        found["fusion"] = (place / "outputs/fused" / fused.run).absolute()
        yield found


@pytest.mark.parametrize("kind", ["hub", "folder", "pickled", "funasr", "trained", "svr", "fusion"])
def test_a_folder_gives_the_shares_of_the_run_wherever_it_lies(kind, runs, place, tmp_path, monkeypatch) -> None:
    from emoshare.command.cli import main

    monkeypatch.chdir(place)  # where relative names of local checkpoints mean something
    assert main(["export", str(runs[kind]), "--to", "hub", str(tmp_path / "out")]) == 0
    before = [package.load(runs[kind], device="cpu").windows_of(clips)[3] for clips in trials(1.0)]
    assert np.ptp(np.concatenate(before), axis=0).max() > 1e-4
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    loaded = package.load(tmp_path / "elsewhere", device="cpu", cache=tmp_path / "cache")
    for clips, expected in zip(trials(1.0), before, strict=True):
        np.testing.assert_allclose(loaded.windows_of(clips)[3], expected, atol=1e-6)
    assert loaded.devel_error == package.load(runs[kind]).devel_error
    text = "".join(path.read_text() for path in (tmp_path / "elsewhere").rglob("*") if path.suffix in (".json", ".md"))
    assert str(place) not in text
    assert "own/" not in text
    files = [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}
    backbones = list((tmp_path / "elsewhere").rglob("backbone"))
    assert len(backbones) == {"hub": 0, "svr": 0}.get(kind, 1)
    front = yaml.safe_load((tmp_path / "elsewhere/README.md").read_text().split("---")[1])
    assert front.get("base_model") == ("some/hubert" if kind in ("hub", "trained", "fusion") else None)
    again = tmp_path / "again"
    assert main(["export", str(tmp_path / "elsewhere"), "--to", "hub", str(again)]) == 0, "an export can be exported"
    assert {path.relative_to(again) for path in again.rglob("*") if path.is_file()} == {
        path.relative_to(tmp_path / "elsewhere") for path in files
    }


def test_a_backbone_of_the_hub_is_named_by_its_commit(runs, place, tmp_path, monkeypatch, emoshare) -> None:
    monkeypatch.chdir(place)
    assert emoshare("export", str(runs["hub"]), "--to", "hub", str(tmp_path / "out"), "--license", "mit").status == 0
    config = json.loads((tmp_path / "out/config.json").read_text())["config"]
    assert (config["backbone"]["path"], config["backbone"]["revision"]) == ("some/hubert", COMMIT)
    front = yaml.safe_load((tmp_path / "out/README.md").read_text().split("---")[1])
    assert (front["license"], front["base_model"], front["library_name"]) == ("mit", "some/hubert", "emoshare")


def test_the_card_says_what_the_model_is_and_how_sure_its_scores_are(runs, corpus_root, place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    hub.export_hub(package.load(runs["fusion"]).bundle, tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    model = package.load(runs["fusion"])
    assert front["base_model"] == "some/hubert"
    assert "license" not in front
    predicted, true = (
        np.loadtxt(runs["fusion"] / kind / "devel.csv", delimiter=",", skiprows=1, usecols=range(1, 10))
        for kind in ("predictions", "reference")
    )
    scores = {
        "spearmanr": np.mean([spearman(predicted[:, e], true[:, e]) for e in range(9)]),
        "ccc": np.mean([concordance(predicted[:, e], true[:, e]) for e in range(9)]),
    }
    [devel, test] = front["model-index"][0]["results"]
    assert (devel["dataset"]["split"], test["dataset"]["split"]) == ("devel", "test")
    for metric in devel["metrics"]:
        assert metric["value"] == pytest.approx(scores[metric["type"]], abs=1e-4)
    row = next(line for line in text.splitlines() if line.startswith("| devel |"))
    numbers = [float(word.strip("()|")) for word in row.split() if word.strip("()|-").replace(".", "").isdigit()]
    assert len(numbers) == 6
    assert numbers[1] < numbers[0] < numbers[2]
    assert numbers[4] < numbers[3] < numbers[5]
    error = np.abs(predicted - true).mean(0)[list(model.targets).index("Anger")]
    assert f"| Anger | {error:.3f} |" in text
    for words in ("hf upload", "emoshare.load(", "## Limits", "weighted mean", "support vector", "no probability"):
        assert words in text


def test_a_demo_run_is_called_synthetic(runs, place, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    run = shutil.copytree(runs["svr"], tmp_path / "run")
    results = json.loads((run / "results.json").read_text().replace('"name": "compare23"', '"name": "demo"'))
    write_sealed(run / "results.json", results)
    hub.export_hub(package.load(run).bundle, tmp_path / "out")
    assert "a program generates" in (tmp_path / "out/README.md").read_text()


def test_nothing_else_is_replaced_and_nothing_is_left_of_a_failure(
    runs, place, tmp_path, monkeypatch, emoshare
) -> None:
    monkeypatch.chdir(place)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    result = emoshare("export", str(runs["svr"]), "--to", "hub", str(mine))
    assert (result.status, [path.name for path in mine.iterdir()]) == (1, ["thesis.tex"])
    assert "holds something else" in result.err
    (mine / "config.json").write_text('{"format": "theirs"}')
    assert emoshare("export", str(runs["svr"]), "--to", "hub", str(mine)).status == 1
    assert "--license MIT License" in emoshare(
        "export", str(runs["svr"]), "--to", "hub", str(tmp_path / "out"), "--license", "MIT License"
    ).err  # fmt: skip
    monkeypatch.setattr(hub, "write_head", lambda bundle, folder: folder.mkdir(exist_ok=True))
    assert emoshare("export", str(runs["svr"]), "--to", "hub", str(tmp_path / "out")).status == 1
    assert not (tmp_path / "out").exists()


def test_shares_that_differ_are_refused(runs, place, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    real = writing.write_encoder

    def changed(config, seed, weights, folder) -> None:
        real(config, seed, {name: value * 1.01 for name, value in weights.items()}, folder)

    monkeypatch.setattr(writing, "write_encoder", changed)
    with pytest.raises(EmoshareError, match="nothing was written"):
        hub.export_hub(package.load(runs["trained"]).bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["trained", "fusion"])
def test_a_trained_backbone_and_a_fusion_become_one_onnx_file(kind, runs, corpus_root, place, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    from emoshare.command.cli import main
    from emoshare.data.audio import read

    monkeypatch.chdir(place)
    assert main(["export", str(runs[kind]), "--to", "onnx", str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    files, expected = package.load(runs[kind], device="cpu").predictions("test")
    found = [session.run(None, {"samples": read(corpus_root / "wav" / file)[None]})[0][0] for file in files]
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=0.03)  # the run itself may have computed in bfloat16
    windows = json.loads(session.get_modelmeta().custom_metadata_map["window"])
    assert len(windows) == {"trained": 1, "fusion": 3}[kind]


def test_autoencoders_go_along(tmp_path) -> None:
    from safetensors.torch import save_file

    from emoshare.backbones import audeep

    made = audeep.random_control(audeep.Settings(units=2), 0)
    source = tmp_path / "source"
    source.mkdir()
    (source / audeep.RECIPE).write_text(json.dumps({"settings": {"units": 2}}))
    for model, level in zip(made.autoencoders, audeep.THRESHOLDS, strict=True):
        save_file(model.state_dict(), audeep.weights_file(source, level))
    (source / "notes.pkl").write_bytes(b"private")
    writing.copy_audeep(source, tmp_path / "out")
    assert audeep.load_folder(tmp_path / "out").facts()["weights"] == made.facts()["weights"]
    assert not (tmp_path / "out/notes.pkl").exists()
    audeep.weights_file(source, -30).unlink()
    with pytest.raises(EmoshareError, match=r"30dB\.safetensors: it is missing"):
        writing.copy_audeep(source, tmp_path / "again")


def test_the_cnn_of_pictures_goes_along_trained_or_not(tmp_path) -> None:
    import torch
    import transformers
    from sections import backbone

    from emoshare.backbones import deepspectrum

    torch.manual_seed(0)
    sizes = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
    transformers.ResNetForImageClassification(sizes).save_pretrained(tmp_path / "cnn")
    (tmp_path / "cnn/preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.6]}')
    config = backbone("deepspectrum", name="deepspectrum", path=str(tmp_path / "cnn"), dim=16)
    encoder = deepspectrum.load_encoder(config)
    trained = {f"encoder.cnn.{name}": tensor + 1 for name, tensor in encoder.cnn.state_dict().items()}
    writing.write_cnn(config, 0, trained, tmp_path / "out")
    loaded = deepspectrum.load_encoder(backbone("deepspectrum", name="x", path=str(tmp_path / "out"), dim=16))
    for name, tensor in loaded.cnn.state_dict().items():
        torch.testing.assert_close(tensor, trained[f"encoder.cnn.{name}"])
    assert loaded.statistics["image_mean"] == [0.4, 0.5, 0.6]


def test_a_folder_of_pickles_is_not_copied(tmp_path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(EmoshareError, match="holds no safetensors"):
        writing.copy_safe(tmp_path / "source", tmp_path / "out")
    (tmp_path / "source/model.safetensors").write_bytes(b"tensors")
    (tmp_path / "source/code.py").write_text("print()")
    writing.copy_safe(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_names_of_folders_and_accounts_are_taken_out() -> None:
    values = {"a": ["/home/me/x", "~/y/z", "../w", "C:\\u\\v", "some/hubert", "1/2 of it", 3], "b": {"c": "/"}}
    assert hub.without_paths(values) == {
        "a": ["x", "z", "w", "v", "some/hubert", "1/2 of it", 3],
        "b": {"c": "/"},
    }


@pytest.mark.parametrize(("kind", "bounded"), [("hub", True), ("svr", False)])
def test_shares_without_limits_are_called_so(runs, place, emoshare, kind, bounded, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    result = emoshare("export", str(runs[kind]), "--to", "hub", str(tmp_path / "card"))
    assert result.status == 0, result.err
    card = (tmp_path / "card/README.md").read_text()
    assert "seed None" not in card
    assert ("not limited to the range from 0 to 1" in card) is not bounded
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    shown = emoshare("predict", str(tmp_path / "card"), str(tmp_path / "a.wav")).out
    assert ("may lie outside 0 to 1" in shown) is not bounded
    model = package.load(tmp_path / "card", device="cpu")
    assert [run["bounded"] for run in describe([model])["runs"]] == [bounded]


def test_the_card_draws_speakers_where_the_run_knows_them(tmp_path) -> None:
    from types import SimpleNamespace
    from typing import Any

    import fakes

    from emoshare.core.config import EMOTIONS, DataConfig
    from emoshare.inference.export.card import intervals
    from emoshare.metrics import bootstrap
    from emoshare.metrics.registry import STANDARD
    from emoshare.runs.predictions import read_shares

    folder = fakes.run(tmp_path / "run", fakes.config(), clips=60)
    files, predicted = read_shares(folder / "predictions/devel.csv", EMOTIONS)
    _, true = read_shares(folder / "reference/devel.csv", EMOTIONS)
    bundle: Any = SimpleNamespace(
        folder=folder,
        results=SimpleNamespace(targets=list(EMOTIONS), files={}, range=[0, 1], scoring_metrics=STANDARD),
        config=SimpleNamespace(data=DataConfig()),
    )

    def expected(clusters):
        drawn = bootstrap.replicates(true, [predicted], clusters=clusters)  # (1, E, B) each
        found = {metric: bootstrap.interval(drawn[metric][0].mean(axis=0)) for metric in ("scc", "ccc")}
        return {metric: pytest.approx(bounds, abs=1e-6) for metric, bounds in found.items()}

    assert intervals(bundle, "devel") == ("the clips", expected(None))
    (folder / "groups").mkdir()
    units = np.arange(60) // 6
    lines = [f"{file},s{unit}" for file, unit in zip(files, units, strict=True)]
    (folder / "groups/devel.csv").write_text("\n".join(["filename,speaker", *lines]) + "\n")
    assert intervals(bundle, "devel") == ("the clips, drawn by speaker", expected(units))
    (folder / "groups/devel.csv").write_text("\n".join(["filename,speaker", *lines[1:]]) + "\n")  # of other clips
    assert intervals(bundle, "devel") == ("the clips", expected(None))
