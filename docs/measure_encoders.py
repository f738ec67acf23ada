"""Print docs/encoders.md: `PYTHONPATH=tests python docs/measure_encoders.py > docs/encoders.md`; no network.

Measured on small random checkpoints of the real classes, as the tests write them. A clip of 0.27 s is computed alone
and beside one of 0.56 s; the number is the largest difference of its frames, whose size is about 1.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import emotion2vec
import inner
import numpy as np
import parakeet
import spectrogram
import torch
import yaml
from backbones import test_omniasr as omniasr
from torch import Tensor

from emoshare.backbones.base import load_backbone
from emoshare.bench.extraction_speed import Candidate, our_candidate, reference, time_batches, without_weights
from emoshare.core.config import WindowConfig
from emoshare.core.products import processor
from emoshare.data.window import Window
from emoshare.inference.export import onnx
from emoshare.inference.export.check import pad_clips
from emoshare.inference.export.graph import ModelGraph, PartGraph
from emoshare.models.head import Head
from emoshare.systems.kinds.mlp import Options
from emoshare.systems.learned import NetworkHead

LONG, SHORT = 9_040, 4_240
WINDOW = WindowConfig(seconds=1, pad="none", normalize="checkpoint")
CONF = Path(__file__).parents[1] / "conf" / "backbone"
MELS = {"wav2vec2-bert": ("w2v_bert", "Wav2Vec2BertModel", "SeamlessM4TFeatureExtractor")}
RECORDED = {"emotion2vec": "7e-01 (FunASR 1.4.16, recorded)"}
COLUMNS = ("model_type", "class", "frames a second", "here", "transformers", "ONNX", "forward", "from samples")
TIMED = (4, 48_000)  # clips and samples of a batch that is timed
HEADER = f"""# Speech encoders

Printed by `PYTHONPATH=tests python docs/measure_encoders.py > docs/encoders.md`, on small random checkpoints of the
real classes.

- **here**, **transformers**: the largest difference between a clip's frames in a batch, beside a longer clip, and
  alone; here, and with transformers' own model and mask. Frames are about 1 in size. A dash means that transformers
  takes 30 s of each clip (10 s of a spectrogram transformer), silence included.
- **ONNX**: the largest difference of an exported model's output, for a batch of two lengths.
- **forward**, **from samples**: how many times as fast as transformers' own model, for 4 clips of 3 s through random
  encoders of 768 features and 4 layers, in float32 on one thread ({processor()}), the shortest of 5 turns of each. A
  forward pass alone starts, here and there, from a spectrum that is at hand; from samples, transformers' own feature
  extractor is counted, too, and here what takes its place. `emoshare bench backbone=…` times one in its own size.

Every checkpoint of these is taken by its path (`backbone=auto backbone.path=…`), also inside a larger model; the second
table has those with a name of their own.

| {" | ".join(COLUMNS)} |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
NAMED = """
## By name

| `backbone=` | model_type | width × layers | licence |
| --- | --- | ---: | --- |
"""


def writers() -> Iterator[tuple[str, Callable[[Path], Any], str]]:
    """Label of the row, what writes its checkpoint, and the checkpoint's name among those of the tests."""
    for name in checkpoints.FAMILIES:
        if name not in ("legacy", "audeering", "data2vec_ctc", "sew_ctc"):
            yield name, lambda folder, name=name: checkpoints.write(folder, name), name
    for name in ("whisper", "w2v_bert"):
        yield name, lambda folder, name=name: checkpoints.write_mel(folder, name), name
    for kind in inner.MODELS:
        yield kind, lambda folder, kind=kind: inner.write(folder, kind), kind
    yield "omniasr", lambda folder: omniasr.write(folder, "omniasr_ctc"), "omniasr"
    yield "ast", spectrogram.write, "ast"
    yield "parakeet", parakeet.write, "parakeet"
    yield "emotion2vec", emotion2vec.write, "emotion2vec"


def clips() -> tuple[Tensor, Tensor]:
    """A batch of two, zeros after the shorter one, and their lengths."""
    waves = torch.randn(2, LONG) * 0.1
    waves[1, SHORT:] = 0
    return waves, torch.tensor([LONG, SHORT])


def ours(backbone: Any, waves: Tensor, lengths: Tensor) -> float:
    """The largest difference between the shorter clip's frames in the batch and alone."""
    frames, counts = backbone(waves, lengths)
    alone, _ = backbone(waves[1:, :SHORT])
    return float((frames[1, : counts[1]] - alone[0]).abs().max())


def theirs(folder: Path, kind: str, name: str, waves: Tensor) -> str:
    """The same of transformers' own model with its own feature extractor and mask."""
    import transformers

    clip = [wave[:n] for wave, n in zip(waves, (LONG, SHORT), strict=True)]
    if kind in RECORDED:
        return RECORDED[kind]
    if kind == "qwen3_asr_encoder":
        both, alone = (inner.reference(folder, name, *part).last_hidden_state[0] for part in (clip, clip[1:]))
        return f"{float((both[-len(alone) :] - alone).abs().max()):.0e}"
    if kind == "parakeet_encoder":
        model = transformers.ParakeetForCTC.from_pretrained(folder).encoder.eval()
        extractor: Any = transformers.ParakeetFeatureExtractor.from_pretrained(folder)
    elif kind == "wav2vec2-bert":
        model = transformers.Wav2Vec2BertModel.from_pretrained(folder).eval()
        extractor = transformers.SeamlessM4TFeatureExtractor.from_pretrained(folder)
    elif kind == "omniasr_audio":
        model = transformers.OmniASRForCTC.from_pretrained(folder).model.audio_tower.eval()
        extractor = transformers.OmniASRFeatureExtractor.from_pretrained(folder)
    elif name in checkpoints.FAMILIES:
        model = checkpoints.reference(folder, name)
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    else:
        return "–"
    options = {"sampling_rate": 16_000, "return_tensors": "pt", "padding": True}
    with torch.no_grad():
        both, alone = (
            model(**extractor([wave.numpy() for wave in part], **options)).last_hidden_state
            for part in (clip, clip[1:])
        )
    frames = min(both.shape[1], alone.shape[1])
    return f"{float((both[1, :frames] - alone[0, :frames]).abs().max()):.0e}"


def exported(backbone: Any, folder: Path, waves: Tensor) -> float:
    """The largest difference of an exported model's output for a batch of two lengths."""
    head = Head(backbone.width, 1, 3, Options(norm="none")).eval()
    graph = ModelGraph(
        [PartGraph(Window.of(WINDOW, backbone.identity), backbone, NetworkHead(head).graph())], [1.0]
    ).eval()
    onnx.write_onnx(graph, folder / "model.onnx", {})
    batch = pad_clips([waves[0].numpy(), waves[1, :SHORT].numpy()])
    with torch.no_grad():
        true = graph(*map(torch.from_numpy, batch)).numpy()
    return float(np.abs(onnx.run_onnx(folder / "model.onnx")(*batch) - true).max())


def speeds(config: Any, architecture: dict[str, Any]) -> str:
    """Seconds of transformers' own model over ours, for random encoders of the family: forward alone, from samples."""
    if config.type in RECORDED:
        return "– | –"
    sizes = {"dim": 768, "layers": 4, "parameters": None, "architecture": architecture}
    section, found = without_weights(replace(config, path="random", pretrained=False, **sizes))
    cpu = torch.device("cpu")
    ours = our_candidate(replace(WINDOW, seconds=3), section, torch.float32, cpu)
    forward, whole = (reference(section, found, torch.float32, cpu, each) for each in (False, True))
    contenders = [forward, encoder_alone(ours), whole, ours]
    time_batches(contenders, TIMED, 5, None, cpu)
    seconds = [min(contender.seconds) for contender in contenders]
    return f"{seconds[0] / seconds[1]:.2f} | {seconds[2] / seconds[3]:.2f}"


def encoder_alone(candidate: Candidate) -> Candidate:
    """Our encoder on an input that is made once, for all batches of the same size."""
    made: list[Tensor] = []

    def extract(waves: Tensor, lengths: Tensor) -> Tensor:
        if not made:
            made.append(candidate.module.prepare(waves, lengths)[0])
        return candidate.module.encoder(made[0], None)

    return Candidate("encoder", candidate.kind, candidate.module, torch.inference_mode()(extract))


def presets() -> Iterator[str]:
    """A row for each published checkpoint that has a name."""
    for path in sorted(CONF.glob("*.yaml")):
        values = yaml.safe_load(path.read_text())
        if "/" in str(values.get("path")) and values.get("layers") not in (None, "???"):
            size, licence = f"{values['dim']} × {values['layers']}", values.get("licence") or values.get("terms")
            yield f"| `{path.stem}` | {values['type']} | {size} | {licence} |"


def row(label: str, write: Callable[[Path], Any], name: str, folder: Path) -> str:
    """A line of the table."""
    config = write(folder).settle_from(WINDOW)
    torch.manual_seed(0)
    waves, lengths = clips()
    backbone = load_backbone(config, WINDOW)
    with torch.no_grad():
        here = ours(backbone, waves, lengths)
    second = backbone.identity.get("frames_per_second", 50)
    kind = config.type if not config.conv_norm else f"{config.type} ({config.conv_norm} norm)"
    architecture = {}
    if label.startswith("conformer"):
        architecture = {"position_embeddings_type": checkpoints.FAMILIES[label].positions}
        kind += f", {checkpoints.FAMILIES[label].positions} positions"
    own, error = theirs(folder, config.type, name, waves), exported(backbone, folder, waves)
    measured = f"{second:g} | {here:.0e} | {own} | {error:.0e} | {speeds(config, architecture)}"
    return f"| {kind} | {backbone.identity['class']} | {measured} |"


if __name__ == "__main__":
    print(HEADER, end="")
    for label, write, name in writers():
        with tempfile.TemporaryDirectory() as place:
            print(row(label, write, name, Path(place)), flush=True)
    print(NAMED + "\n".join(presets()))
