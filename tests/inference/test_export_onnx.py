"""Exports in engines of their own against the run's shares, for every family of backbone and every kind of head."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import emotion2vec
import inner
import numpy as np
import parakeet
import pytest
import spectrogram
import torch
from sections import backbone

import emoshare as package
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.inference.export import check, graph, onnx
from emoshare.inference.export.check import largest_error, trials
from emoshare.inference.export.forms import Exported, roundings
from emoshare.inference.export.graph import ModelGraph, PartGraph, part_graph
from emoshare.inference.export.openvino import core, run_openvino
from emoshare.inference.model import Model
from emoshare.inference.part import Part, TrainedBackbone
from emoshare.models.head import Head
from emoshare.models.svr import Model as Regression
from emoshare.runs.results import Resolved
from emoshare.systems.kinds.mlp import Options as HeadConfig
from emoshare.systems.learned import NetworkHead, RegressionGraph, RegressionHead

pytest.importorskip("onnxruntime")

SHORT = WindowConfig(seconds=1.0)
OWN = WindowConfig(seconds=1.5, pad="none", crop="center", normalize="checkpoint")
LOGMEL = backbone("logmel", dim=20)
PROSODY = backbone("prosody")
AUDEEP = backbone("audeep", dim=64, units=4, pretrained=False)


def model_of(config: Encoder, window: WindowConfig, head: HeadConfig, svr: str = "") -> tuple[Model, ModelGraph]:
    """A model with random weights, none of them at its first value, and its graph."""
    backbone = load_backbone(config, window, torch.float32, 0, Path("cache"))
    torch.manual_seed(1)
    cut = Window.of(window, backbone.identity)
    extractor = TrainedBackbone(backbone, "20", torch.device("cpu"))
    if svr:
        noted = {"pooling": svr, "voicing": backbone.identity.get("voicing")}
        waves, lengths = (torch.from_numpy(a) for a in check.pad_clips([trials(1.0)[1][0]] * 2))
        frames, counts = extractor(waves[:, :16_000], lengths.clamp(max=16_000))
        rng = np.random.default_rng(0)
        fake = Regression(*(np.zeros(1),) * 4)
        width = RegressionGraph(fake, noted).features(frames, counts).shape[1]
        made = Regression(*(rng.normal(size=s) for s in ((width,), (width,), (3, width), (3,))))
        made = replace(made, scale=np.abs(made.scale) * 30 + 10, weights=made.weights / width)
        learned = RegressionHead(made, noted)
    else:
        trained = Head(backbone.width, hidden_states(config.layer, config.layers), 3, head).eval()
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        learned = NetworkHead(trained)  # type: ignore[assignment]
    part = Part(None, extractor, cut, None, learned)
    model = Model.__new__(Model)
    model._parts, model.results = [(part, 1.0)], SimpleNamespace(range=[0, 1])  # type: ignore[assignment]
    return model, ModelGraph([PartGraph(cut, backbone, learned.graph())], [1.0]).eval()


def held(model: Model, graph: ModelGraph, folder: Path, tolerance: float = check.TOLERANCE) -> float:
    """The largest difference of the graph's shares in onnxruntime, which must not be those of a constant."""
    onnx.write_onnx(graph, folder / "model.onnx", {})
    engine = onnx.run_onnx(folder / "model.onnx")
    one, other = (engine(*check.pad_clips(clips)) for clips in trials(1.0)[:2])
    assert np.abs(one - other).max() > 1e-4, "the shares do not depend on the clip: nothing was tested"
    return largest_error(model, engine, "run", "ONNX file", tolerance)


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_every_family_of_speech_encoders(family, window, tmp_path) -> None:
    config = checkpoints.write(tmp_path / "checkpoint", family)
    layer = "weighted" if window is OWN else "last"
    model, graph = model_of(replace(config, layer=layer), window, HeadConfig())
    assert held(model, graph, tmp_path) < 1e-5


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
@pytest.mark.parametrize("kind", inner.MODELS)
def test_encoders_inside_audio_language_models(kind, window, tmp_path) -> None:
    config = inner.write(tmp_path / "checkpoint", kind)
    model, graph = model_of(config.settle_from(window), window, HeadConfig())
    assert held(model, graph, tmp_path, 1e-3) < 1e-4


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
@pytest.mark.parametrize("family", [parakeet, spectrogram], ids=lambda module: module.__name__)
def test_other_encoders_behind_mel_features(family, window, tmp_path) -> None:
    config = family.write(tmp_path / "checkpoint")
    model, graph = model_of(config.settle_from(window), window, HeadConfig())
    assert held(model, graph, tmp_path, 1e-3) < 1e-3


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
def test_emotion2vec(window, tmp_path) -> None:
    config = replace(emotion2vec.write(tmp_path / "checkpoint"), layer="weighted")
    model, graph = model_of(config.settle_from(window), window, HeadConfig())
    assert held(model, graph, tmp_path) < 1e-5


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
@pytest.mark.parametrize("family", ["whisper", "w2v_bert", "w2v_bert_rope"])
def test_encoders_behind_mel_features(family, window, tmp_path) -> None:
    config = checkpoints.write_mel(tmp_path / "checkpoint", family)
    model, graph = model_of(config, window, HeadConfig())
    # where a window is nearly all zeros, w2v-BERT's norms divide by differences of rounding
    assert held(model, graph, tmp_path, 1e-3) < (1e-3 if window is SHORT and family != "whisper" else 1e-4)


@pytest.mark.parametrize("window", [SHORT, OWN], ids=["zeros", "own length"])
@pytest.mark.parametrize("config", [LOGMEL, PROSODY, AUDEEP], ids=lambda config: config.name)
def test_every_feature_set(config, window, tmp_path) -> None:
    model, graph = model_of(config, window, HeadConfig(norm="layer"))
    assert held(model, graph, tmp_path) < 1e-4


def test_deepspectrum(tmp_path) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
    cnn = transformers.ResNetForImageClassification(sizes)
    cnn.eval().save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet/preprocessor_config.json").write_text('{"do_normalize": true}')
    config = backbone("deepspectrum", name="deepspectrum", path=str(tmp_path / "resnet"), dim=16)
    model, graph = model_of(config, replace(OWN, seconds=4.0), HeadConfig(norm="none"))
    assert held(model, graph, tmp_path) < 1e-4


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
@pytest.mark.parametrize(("norm", "output"), [("batch", "sigmoid"), ("layer", "softmax"), ("none", "linear")])
def test_every_head(pooling, norm, output, tmp_path) -> None:
    head = HeadConfig(pooling=pooling, norm=norm, output=output, activation="tanh" if norm == "none" else "relu")
    model, graph = model_of(LOGMEL, OWN, head)
    assert held(model, graph, tmp_path) < 1e-5


@pytest.mark.parametrize(
    ("config", "pooling"),
    [(LOGMEL, "mean"), (LOGMEL, "std"), (LOGMEL, "mean_std"), (PROSODY, "functionals"), (AUDEEP, "none")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_pooling_of_an_svr(config, pooling, tmp_path) -> None:
    model, graph = model_of(config, OWN, HeadConfig(), pooling)
    assert held(model, graph, tmp_path) < 1e-4


def test_a_clip_does_not_depend_on_its_batch_and_lengths_may_be_left_out(tmp_path) -> None:
    import onnxruntime

    config = checkpoints.write(tmp_path / "checkpoint", "hubert_group")  # whose GroupNorm looks at the whole clip
    _, graph = model_of(config, OWN, HeadConfig())
    onnx.write_onnx(graph, tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    clips = trials(1.5)[2]
    together = session.run(None, dict(zip(("samples", "lengths"), check.pad_clips(clips), strict=True)))[0]
    for clip, expected in zip(clips, together, strict=True):
        np.testing.assert_allclose(session.run(None, {"samples": clip[None]})[0][0], expected, atol=1e-5)
    twice = session.run(None, {"samples": np.stack([clips[0]] * 2)})[0]
    np.testing.assert_allclose(twice, together[[0, 0]], atol=1e-5)


def test_openvino_holds_too(tmp_path) -> None:
    openvino = pytest.importorskip("openvino")
    config = checkpoints.write(tmp_path / "checkpoint", "wavlm")
    model, graph = model_of(replace(config, layer="weighted"), OWN, HeadConfig())
    onnx.write_onnx(graph, tmp_path / "model.onnx", {}, samples_alone=True)
    openvino.save_model(openvino.convert_model(tmp_path / "model.onnx"), tmp_path / "m.xml", compress_to_fp16=False)
    assert largest_error(model, run_openvino(tmp_path / "m.xml"), "run", "model") < 1e-4


def test_opensmile_cannot_be_expressed(monkeypatch) -> None:
    backbone_of = SimpleNamespace(identity={"type": "opensmile"}, equal_lengths=False)
    part = SimpleNamespace(extractor=SimpleNamespace(config=None, device=None, cache=None))
    bundle = SimpleNamespace(
        config=SimpleNamespace(backbone=backbone("opensmile")), results=SimpleNamespace(run="outputs/run")
    )
    monkeypatch.setattr(graph, "frozen_backbone", lambda *_: backbone_of)
    with pytest.raises(EmoshareError, match=r"outputs/run.*openSMILE.*--to hub"):
        part_graph(bundle, part)


PAGE = Path(__file__).parents[2] / "docs/export.md"
[SCRIPT] = re.findall(r"^```python\n(import json.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "emoshare", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def run(corpus_root, tmp_path_factory) -> Path:
    """A run of `tiny` on windows of 2 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("export"))
        results = package.train(
            "data=compare23", f"data.root={corpus_root}", "backbone=tiny", "window.seconds=2", "trainer.epochs=2",
            "logger=none", "trainer.progress=false", "extract.precision=float32",
            "extract.compute=float32", "trainer.precision=32-true",
        )  # fmt: skip
        return Path("outputs/default", results.run).absolute()


def test_ten_lines_without_emoshare_and_pytorch_give_the_shares_of_the_run(
    emoshare, run, corpus_root, tmp_path
) -> None:
    result = emoshare("export", str(run), "--to", "onnx", "--out", "model.onnx")
    assert result.status == 0, result.err
    assert "largest difference of a share from PyTorch's" in result.out
    assert "differ more" not in result.out  # the run rounded nothing
    assert len([line for line in SCRIPT.splitlines() if line]) == 10
    (tmp_path / "script.py").write_text(BLOCKED + SCRIPT)
    trained = package.load(run, device="cpu")
    files, expected = trained.predictions("test")
    clips = [corpus_root / "wav" / file for file in files]
    seconds = [len(read(clip)) / 16_000 for clip in clips]
    assert min(seconds) < 2 < max(seconds)
    command = [sys.executable, "script.py", *map(str, clips)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "lengths" not in done.stderr, "no warning of the input that may be left out"
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == list(map(str, clips))
    found = [[row[target] for target in trained.targets] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["targets"]) == list(trained.targets)
    assert json.loads(facts["window"]) == [{"seconds": 2.0, "pad": "zeros", "crop": "start"}]
    assert (facts["rate"], facts["run"], json.loads(facts["normalisation"])) == ("16000", run.name, [False])


def written(folder: Path) -> list[str]:
    """Names in a folder, apart from that of the cache."""
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


def test_a_file_that_differs_is_refused_and_nothing_is_left(emoshare, run, tmp_path, monkeypatch) -> None:
    real = onnx.run_onnx
    monkeypatch.setattr(onnx, "run_onnx", lambda path: lambda *inputs: real(path)(*inputs) + 2e-4)
    result = emoshare("export", str(run), "--to", "onnx", "--out", "model.onnx")
    assert result.status == 1
    assert "2.0e-04" in result.err
    assert "nothing was written" in result.err
    assert written(tmp_path) == []


def test_a_model_that_is_too_large_for_a_file_is_refused(emoshare, run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx, "LARGEST", 1000)
    result = emoshare("export", str(run), "--to", "onnx")
    assert (result.status, written(tmp_path)) == (1, [])
    assert "2 GB at most" in result.err


def test_missing_packages_are_named_with_the_command_that_installs_them(emoshare, run, monkeypatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "onnx" in name else real(name, *a))
    result = emoshare("export", str(run), "--to", "onnx")
    assert result.status == 1
    assert "onnx and onnxruntime not installed; run `pip install 'emoshare[onnx]'`" in result.err


def test_mistakes_on_the_command_line(emoshare, run, tmp_path) -> None:
    assert "must end in .onnx" in emoshare("export", str(run), "--to", "onnx", "model.bin").err
    assert "must end in .xml" in emoshare("export", str(run), "--to", "openvino", "--out", "model.onnx").err
    assert "no finished run" in emoshare("export", str(tmp_path), "--to", "onnx").err
    assert "name the folder" in emoshare("export", str(run), "--to", "hub").err
    assert "--license is for --to hub" in emoshare("export", str(run), "--to", "onnx", "--license", "mit").err


def test_it_is_said_why_a_runs_own_shares_differ_more() -> None:
    def rounding(*resolved: dict[str, str]) -> str:
        leaves = [(SimpleNamespace(results=SimpleNamespace(resolved=Resolved(**one))), 1.0) for one in resolved]
        return roundings(SimpleNamespace(leaves=lambda: leaves))

    assert rounding({"compute": "float32", "stored": "float32"}, {}) == ""
    found = rounding({"compute": "bfloat16", "stored": "float16"}, {"compute": "float32", "stored": "float32"})
    assert found == "computed in bfloat16 from frames rounded to float16"
    line = str(Exported(Path("model.onnx"), 1e-7, found))
    assert line.endswith(
        "1.0e-07; the run's own shares, computed in bfloat16 from frames rounded to float16, differ more"
    )


def test_openvino_by_the_verb(emoshare, run, corpus_root, tmp_path) -> None:
    pytest.importorskip("openvino")
    result = emoshare("export", str(run), "--to", "openvino", "model.xml")
    assert result.status == 0, result.err
    assert "compile it with INFERENCE_PRECISION_HINT=f32" in result.out
    assert written(tmp_path) == ["model.bin", "model.xml"]
    model = core().read_model(tmp_path / "model.xml")
    assert json.loads(model.get_rt_info(["emoshare", "targets"]).astype(str))[0] == "Anger"
    files, expected = package.load(run, device="cpu").predictions("test")
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wave = read(corpus_root / "wav" / files[0])
    assert [port.any_name for port in compiled.inputs] == ["samples"]
    padded = np.full((2, len(wave) + 16_000), np.nan, np.float32)
    padded[0, : len(wave)], padded[1, : len(wave) // 2] = wave, wave[: len(wave) // 2]
    np.testing.assert_allclose(compiled(padded)[0][0], expected[0], atol=1e-4)
    np.testing.assert_allclose(compiled({"samples": wave[None]})[0][0], expected[0], atol=1e-4)  # nothing is kept
