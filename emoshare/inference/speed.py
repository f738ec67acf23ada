"""How fast `predict` is: against transformers' own pipeline on the same architecture, in one process, turn by turn.

Random weights stand in for a checkpoint, and noise for speech: speed depends on neither. The pipeline gets a classifier
of as many outputs as there are targets.

Shapes: B clips, N samples.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from emoshare.backbones import architecture
from emoshare.backbones.engine import batch_seconds
from emoshare.core.config import RATE, Config
from emoshare.core.errors import EmoshareError
from emoshare.core.text import console_table
from emoshare.inference.part import Part, make_encoder
from emoshare.systems.learned import NetworkHead

TARGETS = 9
PIPELINE_BATCH = 8
PIPELINES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")  # that take samples, and have a class for clips


def prediction_speed(config: Config, device: torch.device) -> dict[str, Any]:
    """Seconds for one clip and for many, by emoshare and by transformers' pipeline in both precisions.

    Raises:
        EmoshareError: the backbone is none of transformers', or is trained.
    """
    section: Any = config.backbone
    if section.type not in PIPELINES or not section.frozen:
        raise EmoshareError(f"backbone={section.name}: transformers has no pipeline for it; choose a frozen encoder")
    section = replace(section, pretrained=False, normalize=True, mask=True)
    config = replace(config, backbone=section)
    encoder = make_encoder(config, device)
    head = config.head.make(encoder.extractor.width, 1, TARGETS).eval().requires_grad_(False).to(device)
    part = Part(config, encoder.extractor, encoder.window, encoder.rounded, NetworkHead(head))
    samples = round(config.window.seconds * RATE)
    count = config.bench.clips or max(int(batch_seconds(config.extract.max_batch_seconds, device) * RATE / samples), 8)
    clips = list(np.random.default_rng(0).normal(0, 0.1, (count, samples)).astype(np.float32))
    ways: dict[str, Callable[[list[np.ndarray]], Any]] = {"emoshare": part.predict}
    half = torch.bfloat16
    for name, dtype in {"pipeline float32": torch.float32, "pipeline bfloat16": half}.items():
        ways[name] = pipeline(section, dtype, device)
    rows = {name: {"one": [], "many": []} for name in ways}  # type: ignore[var-annotated]
    for turn in range(config.bench.repeats + 1):  # the first warms up
        for name, predict in ways.items():
            for kind, batch in {"one": clips[:1], "many": clips}.items():
                seconds = timed(predict, batch, device)
                rows[name][kind] += [seconds] if turn else []
    length = samples / RATE
    found = {
        name: {
            "latency_seconds": statistics.median(times["one"]),
            "realtime_one": length / statistics.median(times["one"]),
            "realtime_many": count * length / statistics.median(times["many"]),
        }
        for name, times in rows.items()
    }
    extractor = encoder.extractor
    return {
        "backbone": section.name, "window": length, "clips": count, "device": str(device), "threads":
        torch.get_num_threads(), "engine": extractor.engine, "compute": extractor.compute, "rows": found,
    }  # fmt: skip


def pipeline(section: Any, dtype: torch.dtype, device: torch.device) -> Callable[[list[np.ndarray]], Any]:
    """transformers' audio-classification pipeline of the architecture."""
    import transformers

    sizes = architecture.describe(section, None)
    sizes.num_labels = TARGETS
    kind = getattr(transformers, architecture.FAMILIES[section.type].stem + "ForSequenceClassification")
    model = kind._from_config(sizes, dtype=dtype).eval()
    features = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=section.conv_norm == "layer")
    made: Any = transformers.pipeline("audio-classification", model=model, feature_extractor=features, device=device)
    return lambda clips: made(list(clips), batch_size=min(len(clips), PIPELINE_BATCH), top_k=None)


def timed(function: Callable[[list[np.ndarray]], Any], clips: list[np.ndarray], device: torch.device) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    function(clips)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def speed_text(found: dict[str, Any]) -> str:
    """The figures for a terminal."""
    ours, threads = found["rows"]["emoshare"], found["threads"]
    title = f"{found['backbone']}, {found['window']:g} s, {found['device']} with {threads} threads; emoshare: " + (
        f"{found['engine']}, {found['compute']}"
    )
    rows = [
        [
            name,
            f"{row['latency_seconds'] * 1000:.0f} ms",
            f"{row['realtime_one']:.1f}",
            f"{row['realtime_many']:.1f}",
            f"{ours['realtime_one'] / row['realtime_one']:.2f} ×",
            f"{ours['realtime_many'] / row['realtime_many']:.2f} ×",
        ]
        for name, row in found["rows"].items()
    ]  # fmt: skip
    titles = ("", "one clip", "× real time", f"{found['clips']} clips", "gain, one", "gain, many")
    return f"{title}\n{console_table(titles, rows)}"
