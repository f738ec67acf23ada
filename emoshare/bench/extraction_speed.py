"""Extraction speed: our encoder timed turn by turn against transformers' own models, and against plain matrix products.

Random weights of the full architecture replace the checkpoint: speed does not depend on them.

Shapes: B clips, N samples, T frames, D features, L layers.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from emoshare.backbones import architecture as encoders
from emoshare.backbones import checkpoint, families, hub
from emoshare.backbones.base import load_backbone
from emoshare.backbones.extractor import SECOND_BYTES, batch_seconds, precision_name
from emoshare.backbones.packed import place
from emoshare.backbones.spectrum import STEP
from emoshare.backbones.whisper import longest_input
from emoshare.bench.flops import flops, gemm, mel_flops
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import out_of_memory
from emoshare.core.hardware import resolve_dtype
from emoshare.core.products import matrix_bf16, wait
from emoshare.data.window import frame_count
from emoshare.runs.resolved import ResolvedRun

MASKED = ("audioflamingo3_encoder", "qwen3_asr_encoder")  # model_types that take no features without a mask
Extract = Callable[[Tensor, Tensor], Any]  # (B, N) samples, (B,) samples of speech → frames


@dataclass
class Candidate:
    """Something that computes frames, or the reason why it does not."""

    name: str
    kind: torch.dtype  # that it computes in
    module: nn.Module = field(default_factory=nn.Identity)  # on a GPU during its own turns alone
    extract: Extract | None = None
    problem: str | None = None
    seconds: list[float] = field(default_factory=list)  # of a batch, one per turn
    gpu_peak_gb: float | None = None


def without_weights(section: Any) -> tuple[Any, Any]:
    """The backbone with random weights, and transformers' config of it; None of one that has no such."""
    if hasattr(section, "pretrained") and "pretrained" in section.own_keys():
        section = dataclasses.replace(section, pretrained=False)
    if not section.convertible:
        return section, None
    folder = checkpoint.locate(section)
    if folder is None or not (folder / hub.PREPROCESSOR).is_file():  # nothing depends on what it would say
        section = dataclasses.replace(section, normalize=section.normalize is not False)
    architecture = encoders.describe(section, folder)
    if section.parameters is None:
        section = dataclasses.replace(section, parameters=encoders.parameters_of(section, architecture))
    return section, architecture


def extraction_speed(run: ResolvedRun, samples: int) -> dict[str, Any]:
    """Seconds per batch for windows of `samples`, by transformers' own models and by ours, and what follows.

    Returns the batch, the GEMM peak of each precision, a row per model (a `problem` in place of figures where it could
    not run) and the name of ours.
    """
    section, architecture = without_weights(run.config.backbone)
    clips = run.config.bench.clips or batch_clips(run, samples)
    contenders = candidates(run, section, architecture)
    peaks = time_batches(contenders, (clips, samples), run.config.bench.repeats, architecture, run.device)
    operations = [
        count_operations(section, architecture, run.config.window, (clips, samples), t) for t in (False, True)
    ]
    rows = {}
    for candidate in contenders:
        middle = None if candidate.problem else statistics.median(candidate.seconds)
        work = operations[candidate.name.startswith("transformers")]
        rows[candidate.name] = {
            "problem": candidate.problem,
            "seconds": candidate.seconds,
            "flops": work,
            "realtime": clips * samples / RATE / middle if middle else None,
            "gemm_fraction": work / middle / peaks[candidate.kind] if middle and work else None,
            "gpu_peak_gb": candidate.gpu_peak_gb,
        }
    return {
        "batch": {"clips": clips, "audio_seconds": clips * samples / RATE},
        "gemm_peak_tflops": {precision_name(kind): peak / 1e12 for kind, peak in peaks.items()},
        "extraction": rows,
        "ours": contenders[-1].name,
    }


def count_operations(
    section: Any, architecture: Any, window: WindowConfig, shape: tuple[int, int], theirs: bool
) -> float:
    """Floating-point operations for a batch of (B, N); 0 without a network.

    theirs: those of transformers' model, which computes all layers, and of some families 30 s of each clip.
    """
    if architecture is None:
        return 0.0
    clips, samples = shape
    if families.FAMILIES[architecture.model_type].samples:
        all_layers = theirs or not section.layer.isdigit()
        return flops(architecture, section.layers if all_layers else int(section.layer), clips, samples)
    if theirs:
        section = dataclasses.replace(section, layer="last")
        samples = max(samples, fixed_frames(architecture) * STEP)
    return mel_flops(section, window, clips, samples)


def batch_clips(run: ResolvedRun, samples: int) -> int:
    """The number of clips in a batch of extraction."""
    config = run.config
    seconds = batch_seconds(config.extract.max_batch_seconds, run.device)
    if config.bench.gpu_gb and run.device.type == "cuda":
        seconds = min(seconds, config.bench.gpu_gb * 1e9 / SECOND_BYTES)
    return max(int(seconds * RATE / samples), 1)


def candidates(run: ResolvedRun, section: Any, architecture: Any) -> list[Candidate]:
    """transformers in float32 and half precision, then our own; the last is what extraction takes."""
    config, device = run.config, run.device
    kind = resolve_dtype(config.extract.compute, device) if architecture else torch.float32
    half = torch.bfloat16 if device.type == "cpu" else resolve_dtype("auto", device)
    if not architecture:
        return [our_candidate(config.window, section, kind, device)]
    kinds = [k for k in (torch.float32, half) if k != kind]
    references = [reference(section, architecture, k, device) for k in (torch.float32, half)]
    if not families.FAMILIES[architecture.model_type].samples:
        references.append(reference(section, architecture, torch.float32, device, from_samples=True))
    return [*references, *(our_candidate(config.window, section, k, device) for k in [*kinds, kind])]


def our_candidate(window: WindowConfig, section: Any, kind: torch.dtype, device: torch.device) -> Candidate:
    """Our own encoder in a precision."""
    candidate = Candidate(f"emoshare {precision_name(kind)}", kind)
    candidate.problem = precision_problem(kind, device) or memory_problem(weights(section, kind))
    if candidate.problem is None:
        candidate.module = candidate.extract = place(load_backbone(section, window, kind), device)
    return candidate


def precision_problem(kind: torch.dtype, device: torch.device) -> str | None:
    """The reason that a precision is not timed; None where it is."""
    without = kind == torch.bfloat16 and device.type == "cpu" and not matrix_bf16()
    return "no bfloat16 instructions in this processor" if without else None


def reference(
    section: Any, architecture: Any, kind: torch.dtype, device: torch.device, from_samples: bool = False
) -> Candidate:
    """transformers' own model of the architecture.

    from_samples: its input is made in each turn, by transformers' own feature extractor; otherwise it is at hand.
    """
    candidate = Candidate(f"transformers {precision_name(kind)}{', from samples' if from_samples else ''}", kind)
    candidate.problem = precision_problem(kind, device) or memory_problem(weights(section, kind))
    if candidate.problem is None:
        with torch.random.fork_rng(devices=[]):
            model = checkpoint.build(section, architecture, None, 0).eval().to(kind)
        extractor = feature_extractor(architecture) if from_samples else None

        def extract(waves: Tensor, lengths: Tensor) -> Tensor:
            if extractor:
                inputs = extracted_inputs(extractor, architecture, waves, kind)
            else:
                inputs = model_inputs(architecture, waves, kind)
            with torch.inference_mode():
                return model(*inputs).last_hidden_state

        candidate.module, candidate.extract = model, extract
    return candidate


def feature_extractor(architecture: Any) -> Any:
    """transformers' own, of the sizes that an encoder takes."""
    import transformers

    family = families.FAMILIES[architecture.model_type]
    sizes: dict[str, int] = {}
    if family.module == "w2v_bert":
        sizes = dict.fromkeys(("feature_size", "num_mel_bins"), architecture.feature_projection_input_dim // 2)
    elif family.module == "ast":
        sizes = {"num_mel_bins": architecture.num_mel_bins, "max_length": architecture.max_length}
    elif not family.samples:
        sizes = {"feature_size": architecture.num_mel_bins}
    return getattr(transformers, family.extractor)(**sizes)


def extracted_inputs(extractor: Any, architecture: Any, waves: Tensor, kind: torch.dtype) -> tuple[Tensor, ...]:
    """The inputs of transformers' model by its own feature extractor, for clips of one length (B, N)."""
    options: dict[str, Any] = {"sampling_rate": RATE, "return_tensors": "pt"}
    if architecture.model_type != "audio-spectrogram-transformer":  # which has no such choice
        options["padding"] = "max_length" if fixed_frames(architecture) else "longest"
        options["return_attention_mask"] = architecture.model_type in MASKED
    inputs = extractor([wave.numpy() for wave in waves.cpu()], **options)
    features = inputs[extractor.model_input_names[0]].to(waves.device, kind)
    return (features, inputs["attention_mask"].to(waves.device)) if "attention_mask" in inputs else (features,)


def fixed_frames(architecture: Any) -> int:
    """Mel frames that transformers' model takes of each clip, silence after it included; 0: those of the clip."""
    if architecture.model_type == "audio-spectrogram-transformer":
        return architecture.max_length
    if families.FAMILIES[architecture.model_type].module == "whisper":
        return longest_input(architecture)
    return 0


def model_inputs(architecture: Any, waves: Tensor, kind: torch.dtype) -> tuple[Tensor, ...]:
    """The inputs of transformers' model for samples (B, N): these, or features of zeros in the size of its own."""
    waves, name = waves.to(kind), architecture.model_type
    family, clips, count = families.FAMILIES[name], len(waves), waves.shape[1] // STEP  # mel frames
    if family.samples:
        return (waves[:, None] if name == "omniasr_audio" else waves,)
    if family.module in ("whisper", "qwen3_asr"):  # some have a mask, and chunks
        length = fixed_frames(architecture) or -count % (2 * getattr(architecture, "n_window", 1)) + count
        mask = (torch.arange(length) < (length if fixed_frames(architecture) else count)).expand(clips, -1)
        features = waves.new_zeros(clips, architecture.num_mel_bins, length)
        return (features, mask.to(waves.device)) if name in MASKED else (features,)
    if name == "audio-spectrogram-transformer":
        return (waves.new_zeros(clips, architecture.max_length, architecture.num_mel_bins),)
    if name == "parakeet_encoder":
        return (waves.new_zeros(clips, count, architecture.num_mel_bins),)
    return (waves.new_zeros(clips, frame_count(waves.shape[1]), architecture.feature_projection_input_dim),)


def weights(section: Any, kind: torch.dtype) -> int:
    """Bytes that a model's weights take: they are made in float32 and then rounded."""
    return (section.parameters or 0) * (4 if kind == torch.float32 else 4 + kind.itemsize)


def memory_problem(size: int) -> str | None:
    """The reason not to allocate this number of bytes; None where they are free."""
    free = psutil.virtual_memory().available
    return f"needs {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free" if size > free else None


def time_batches(
    contenders: list[Candidate], shape: tuple[int, int], repeats: int, architecture: Any, device: torch.device
) -> dict[torch.dtype, float]:
    """Time a batch of (B, N) on each, turn by turn, so that all meet the same machine; the first turn is a warm-up.

    Returns the GEMM peak of each precision, the best of the same turns.
    """
    waves = (torch.randn(shape) * 0.1).to(device)  # (B, N)
    lengths = torch.full(shape[:1], shape[1])
    peaks: dict[torch.dtype, float] = {}
    for candidate in contenders:
        candidate.module.cpu()
    for turn in range(repeats + 1):
        for candidate in contenders:
            if candidate.problem is None:
                time_batch(candidate, waves, lengths, device)
                candidate.seconds = candidate.seconds[1:] if turn == 0 else candidate.seconds
        for kind in {candidate.kind for candidate in contenders if candidate.problem is None and architecture}:
            peak = gemm(architecture, shape[0] * frame_count(shape[1]), kind, device)
            peaks[kind] = max(peak, peaks.get(kind, 0.0))
    return peaks


def time_batch(candidate: Candidate, waves: Tensor, lengths: Tensor, device: torch.device) -> None:
    """One timed batch, or `out of memory` as the candidate's problem."""
    assert candidate.extract is not None
    try:
        with place_on(candidate.module, device):
            if device.type != "cpu":  # memory is allocated again in every turn
                candidate.extract(waves, lengths)
            wait(device)
            start = time.perf_counter()
            candidate.extract(waves, lengths)
            wait(device)
            candidate.seconds.append(time.perf_counter() - start)
            if device.type == "cuda":
                candidate.gpu_peak_gb = torch.cuda.max_memory_allocated(device) / 1e9
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        candidate.problem, candidate.seconds = "out of memory", []


@contextmanager
def place_on(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The module on the device, alone, so that the peak of its memory is its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        module.to(device)
        yield
    finally:
        module.cpu()
