"""auDeep: representations of a recurrent autoencoder that was trained without labels on the corpus. A vector per clip.

    samples → mel spectrogram in dB, clipped at −30, −45, −60 and −75 dB → four autoencoders → 4 × R features

After the system of the ComParE 2023 baselines and auDeep's published code (Freitag et al., 2018). The autoencoders of a
corpus are trained at the first use, by `autoencoder_training`, and kept under the cache.

Shapes: B clips, N samples at 16 kHz, T frames, F mel bands, U units, R = 4 · U.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone, check_dim, fingerprint, identify, one_frame
from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames, power
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.hashing import check_digests, digest
from emoshare.data.audio import RULES
from emoshare.models.autoencoder import SequenceAutoencoder

SAMPLES = 3 * RATE  # of a clip, from its middle
WIDTH, STEP = 1280, 640  # samples of a frame and between frames: 80 and 40 ms
FRAMES = (SAMPLES - WIDTH) // STEP + 1  # 74
BANDS = 128
PRE_EMPHASIS = 0.95
THRESHOLDS = (-30, -45, -60, -75)  # dB below a clip's maximum: a data set and an autoencoder each
LAYERS, DROPOUT = 2, 0.2
RECIPE = "recipe.json"  # beside the weights: what they were trained on and how
ANOTHER = "name another folder, or backbone.path=audeep, which trains them"  # of a folder that a user named
REMEDY = "delete the folder, and the autoencoders are trained again"


@dataclass(frozen=True)
class Settings:
    """Of the autoencoders' training."""

    epochs: int = 64
    units: int = 256  # U, of each GRU layer
    batch_size: int = 512  # clips
    train_on_test: bool = True  # on the test partition's clips too, as the original: no labels are involved
    seed: int = 0  # of the first weights, the dropout and the order of the clips


def mel_filters() -> np.ndarray:
    """(641, 128) triangles of height 1 between 130 points at equal distances of mel, 0 to 8 kHz.

    mel = 2595 · log₁₀(1 + f / 700). Each corner is on the bin of the spectrum at or below it, as in the original.
    """
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    corners = np.floor((WIDTH + 1) * hertz / RATE)
    bins = np.arange(WIDTH // 2 + 1)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    with np.errstate(divide="ignore", invalid="ignore"):  # sides of no width have no bin
        rising = np.where((bins >= low) & (bins < middle), (bins - low) / (middle - low), 0)
        falling = np.where((bins >= middle) & (bins < high), (high - bins) / (high - middle), 0)
    return rising + falling


class Spectrogram(nn.Module):
    """A clip's 128 mel bands of 80 ms every 40 ms over 3 s, in dB."""

    bank: Tensor  # (641, 128)
    window: Tensor  # (1280,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.from_numpy(mel_filters()).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WIDTH), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """(B, N), (B,) → (B, 74, 128) in dB relative to each clip's maximum; silence is 0 throughout."""
        waves = centre(waves, lengths)
        waves = torch.cat([waves[:, :1], waves[:, 1:] - PRE_EMPHASIS * waves[:, :-1]], 1)
        frames = cut_frames(waves, WIDTH, STEP, FRAMES)  # (B, 74, 1280)
        frames = (frames - frames.mean(2, keepdim=True)) * self.window
        levels = power(frames, WIDTH) / WIDTH @ self.bank  # (B, 74, 128)
        least = torch.where(levels > 0, levels, torch.inf).amin((1, 2), keepdim=True)
        most = levels.amax((1, 2), keepdim=True)
        levels = 10 * (torch.where(levels > 0, levels, least) / most.clamp(min=torch.finfo(torch.float32).tiny)).log10()
        return torch.where(most > 0, levels, 0.0)


def centre(waves: Tensor, lengths: Tensor) -> Tensor:
    """(B, N), (B,) → (B, 48000): a longer clip is cut to its middle, a shorter one gets zeros on both sides."""
    spare = lengths - SAMPLES
    start = spare.sign() * torch.div(spare.abs(), 2, rounding_mode="floor")
    place = start[:, None] + torch.arange(SAMPLES, device=waves.device)
    at = place.clamp(min=0).minimum(lengths[:, None] - 1)
    return torch.where((place >= 0) & (place < lengths[:, None]), waves.gather(1, at), 0.0)


def clip_levels(levels: Tensor, threshold: float) -> Tensor:
    """Levels in dB (B, T, F), clipped from below and stretched to [-1, 1] clip by clip; a constant clip becomes 0."""
    levels = levels.clamp(min=threshold)
    low, high = levels.amin((1, 2), keepdim=True), levels.amax((1, 2), keepdim=True)
    scaled = 2 * (levels - low) / (high - low).clamp(min=1e-4) - 1
    return torch.where(high - low > 1e-4, scaled, 0.0)


class AuDeep(Float32):
    """The four encoders behind their front end: (B, N) → (B, 1, 4 · R). Always in float32.

    `dim` is 4 · R: 4,096 with 256 units. `training_identity` says what the weights were trained on and how.
    """

    def __init__(self, autoencoders: Sequence[SequenceAutoencoder], training_identity: dict[str, Any]) -> None:
        super().__init__()
        self.spectrogram = Spectrogram()
        self.autoencoders = nn.ModuleList(autoencoders)
        self.training_identity = training_identity
        self.dim = sum(autoencoder.size for autoencoder in autoencoders)
        self.eval()

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) and samples of speech (B,) → frames (B, 1, 4 · R), frames that count (B,), all 1.

        The 3 s are taken from the middle of the speech alone, never of its padding.
        """
        levels = self.spectrogram(waves.float(), lengths.to(waves.device))
        pairs: Any = zip(self.autoencoders, THRESHOLDS, strict=True)
        vectors = [autoencoder.encode(clip_levels(levels, threshold)) for autoencoder, threshold in pairs]
        return torch.cat(vectors, 1)[:, None], torch.ones_like(lengths)

    def facts(self) -> dict[str, Any]:
        """All that the vectors depend on besides the samples, as JSON."""
        return {
            "class": "AuDeep",
            "parameters": sum(parameter.numel() for parameter in self.autoencoders.parameters()),
            "dim": self.dim,
            "training": self.training_identity,
            "weights": fingerprint(self.autoencoders.state_dict().items()),
        }


def training_identity(audio_fingerprint: str, settings: Settings) -> dict[str, Any]:
    """All that trained autoencoders depend on but the device, as JSON."""
    front_end = {
        "samples": SAMPLES, "width": WIDTH, "step": STEP, "bands": BANDS, "pre_emphasis": PRE_EMPHASIS,
        "thresholds": list(THRESHOLDS), "reading": RULES,
    }  # fmt: skip
    versions = {name: version(name) for name in ("torch", "pytorch-lightning")}
    return {"audio": audio_fingerprint, "settings": asdict(settings), "spectrogram": front_end, "versions": versions}


def folder_of(identity: dict[str, Any], cache: Path) -> Path:
    """Where the autoencoders of a training identity are kept."""
    return cache / "audeep" / digest(identity)


def weights_file(folder: Path, threshold: int) -> Path:
    return folder / f"{-threshold}dB.safetensors"


def new_autoencoder(settings: Settings, threshold: int, seed: int) -> SequenceAutoencoder:
    """One with random weights, which depend on the seed and the threshold alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * seed - threshold)
        return SequenceAutoencoder(BANDS, settings.units, LAYERS, DROPOUT)


def random_control(settings: Settings, seed: int) -> AuDeep:
    """The same architecture with untrained weights from `seed`."""
    autoencoders = [new_autoencoder(settings, threshold, seed) for threshold in THRESHOLDS]
    return AuDeep(autoencoders, {"untrained": True, "units": settings.units, "seed": seed})


def settings_of(config: Any) -> Settings:
    return Settings(config.epochs, config.units, config.batch_size, config.train_on_test)


def check(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError where the autoencoders would not give, or a folder's do not give, the config's features."""
    units = config.units
    if config.pretrained and not config.trained_first:
        units = recipe_of(Path(config.path).expanduser())["settings"]["units"]
    check_dim(config, len(THRESHOLDS) * 2 * LAYERS * units, f" with {units} units")


def recipe_of(folder: Path) -> dict[str, Any]:
    """The training recipe of the autoencoders in a folder. EmoshareError where it holds none."""
    if not (folder / RECIPE).is_file():
        raise EmoshareError(f"backbone.path={folder}: no {RECIPE} in it; name a folder of auDeep's below cache/audeep")
    recipe: dict[str, Any] = read_json(folder / RECIPE, ANOTHER)
    return recipe


def load(config: Any, window: WindowConfig, seed: int, cache: Path) -> Backbone:
    """The trained autoencoders in the folder `config.path`, or with pretrained=false untrained ones.

    Raises:
        EmoshareError: the autoencoders were not trained yet, or what `load_folder` raises.
    """
    if not config.pretrained:
        encoder = random_control(settings_of(config), seed)
    elif config.trained_first:
        raise EmoshareError(
            "backbone=audeep: its autoencoders are trained on a corpus first; extract or train with that corpus, "
            f"or set backbone.path to a folder below {cache / 'audeep'}"
        )
    else:
        folder = Path(config.path).expanduser()
        encoder = load_folder(folder, REMEDY if folder.absolute().parent == (cache / "audeep").absolute() else ANOTHER)
    facts = encoder.facts()
    return Backbone(
        encoder, identify(replace(config, path=type(config).path), window, facts, encoder), config.frozen, one_frame
    )


def load_folder(folder: Path, remedy: str = ANOTHER) -> AuDeep:
    """The trained autoencoders of a folder. remedy: what to do where they cannot be read.

    Raises:
        EmoshareError: a file is missing, unreadable or of other sizes than its recipe says.
    """
    from safetensors.torch import load_file

    check_digests(folder, remedy)
    identity = recipe_of(folder)
    autoencoders = []
    for threshold in THRESHOLDS:
        path = weights_file(folder, threshold)
        try:
            with torch.device("meta"):  # what the recipe says takes no memory before it is compared with the file
                autoencoder = SequenceAutoencoder(BANDS, identity["settings"]["units"], LAYERS, DROPOUT)
            autoencoder.load_state_dict(load_file(path), assign=True)
        except Exception as error:  # safetensors' own, torch's, the system's
            raise EmoshareError(f"{path}: not readable ({str(error).splitlines()[0]}); {remedy}") from error
        autoencoders.append(autoencoder)
    return AuDeep(autoencoders, json.loads(json.dumps(identity)))
