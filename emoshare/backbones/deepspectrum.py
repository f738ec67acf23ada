"""DeepSpectrum: a mel spectrogram as a picture, described by a CNN that was trained on ImageNet. One vector per clip.

    samples → mel spectrogram in dB → viridis colours → 224 × 224 → CNN → average over the picture

After the system of the ComParE 2023 baselines (Schuller et al., 2023). Two things differ from it:
- The picture is not drawn by matplotlib. Its colour map is applied as an array, and PyTorch resizes the result.
- The CNN is one of transformers', by default `microsoft/resnet-50` (ResNet v1.5) with its own RGB normalisation. The
  original took Keras' ResNet50 (v1), whose input is BGR minus (103.939, 116.779, 123.68): other weights, and its means
  would be wrong for these. torchvision and timm are no options, because their wheels need a CUDA build of PyTorch.

Shapes: B clips, N samples at 16 kHz, T frames of the spectrogram, D features.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones import checkpoint, hub
from emoshare.backbones.architecture import FETCH_AGAIN, parse
from emoshare.backbones.base import Backbone, fingerprint, identify, one_frame
from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames, power
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.masks import length_mask

BANDS, FFT, STEP = 128, 512, 256  # mel bands; samples of a frame and between frames
SIZE = 224  # pixels, height and width of the picture
FLOOR = 1e-10  # least power before the logarithm, as librosa has it
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}  # RGB in [0, 1]
# model_type → stem of transformers' class. All of them pool to one vector themselves.
CNNS = {
    "resnet": "ResNet", "convnext": "ConvNext", "convnextv2": "ConvNextV2", "regnet": "RegNet",
    "efficientnet": "EfficientNet", "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "bit": "Bit",
}  # fmt: skip
PROVENANCE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")


class MelPicture(nn.Module):
    """A clip's mel spectrogram as a picture in viridis, low frequencies at the bottom.

    128 Slaney mel bands of 32 ms every 16 ms (Hann, no centring, power), in dB relative to the clip's maximum. The
    darkest colour is the clip's least value, the brightest its greatest. The width is 224 pixels
    whatever the clip's length.
    """

    bank: Tensor  # (257, 128)
    window: Tensor  # (512,)
    colours: Tensor  # (256, 3), RGB in [0, 1]

    def __init__(self) -> None:
        super().__init__()
        import matplotlib
        from torchaudio.functional import melscale_fbanks

        bank = melscale_fbanks(FFT // 2 + 1, 0.0, RATE / 2, BANDS, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        colours = torch.tensor(np.array(matplotlib.colormaps["viridis"].colors), dtype=torch.float32)  # type: ignore[attr-defined]
        self.register_buffer("colours", colours, persistent=False)

    def decibels(self, waves: Tensor, inside: Tensor) -> Tensor:
        """(B, N), true for a clip's own frames (B, T) → mel spectrogram (B, T, 128) in dB, 0 at each clip's maximum."""
        frames = cut_frames(waves, FFT, STEP, inside.shape[1]) * self.window  # (B, T, 512)
        levels = 10 * (power(frames, FFT) @ self.bank).clamp(min=FLOOR).log10()
        return levels - torch.where(inside[..., None], levels, -torch.inf).amax((1, 2), keepdim=True)

    def paint(self, values: Tensor) -> Tensor:
        """Values in [0, 1] (B, T, 128) → colours (B, 3, 128, T), the first row at the top."""
        count = len(self.colours)
        colours = self.colours[(values * count).long().clamp(max=count - 1)]  # (B, T, 128, 3)
        return colours.permute(0, 3, 2, 1).flip(2)

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """(B, N), (B,) → (B, 3, 224, 224), RGB in [0, 1]; silence has the darkest colour throughout.

        A clip shorter than 512 samples gives one frame.
        """
        waves = nn.functional.pad(torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0), (0, FFT))
        counts = 1 + torch.div(lengths.clamp(min=FFT) - FFT, STEP, rounding_mode="floor")  # (B,)
        inside = length_mask(counts, counts.max())  # type: ignore[arg-type]  # (B, T)
        levels = self.decibels(waves, inside)
        low = torch.where(inside[..., None], levels, torch.inf).amin((1, 2), keepdim=True)
        colours = self.paint(((levels - low) / (0 - low).clamp(min=1e-6)).clamp(0, 1))
        across = resizing(counts, inside.shape[1], SIZE)  # (B, 224, T)
        down = resizing(torch.full_like(counts[:1], BANDS), BANDS, SIZE)  # (1, 224, 128)
        return down[:, None] @ colours @ across.transpose(1, 2)[:, None]


def resizing(sizes: Tensor, longest: Any, out: int) -> Tensor:
    """Matrices (B, out, longest) that resize (B,) pixels to `out`, bilinear with antialiasing as PyTorch does it."""
    scale = sizes[:, None, None].float() / out
    centre = (torch.arange(out, device=sizes.device)[:, None] + 0.5) * scale
    pixel = torch.arange(longest, device=sizes.device)
    weights = (1 - (pixel + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0) * (pixel < sizes[:, None, None])
    return weights / weights.sum(2, keepdim=True)


class DeepSpectrum(Float32):
    """Clips as pictures through a CNN: (B, N) → (B, 1, D). Always in float32.

    `dim` is D, what the CNN pools to.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, cnn: Any, image_mean: list[float], image_std: list[float]) -> None:
        super().__init__()
        self.picture, self.cnn = MelPicture(), cnn
        self.statistics = {"image_mean": image_mean, "image_std": image_std}
        self.register_buffer("mean", torch.tensor(image_mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(image_std)[:, None, None], persistent=False)
        with torch.no_grad():
            self.dim: int = self.pool(torch.zeros(1, 3, 64, 64, device=cnn.device)).shape[1]

    def pool(self, pictures: Tensor) -> Tensor:
        """Normalised pictures (B, 3, H, W) → (B, D)."""
        return self.cnn(pixel_values=pictures).pooler_output.flatten(1)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) and samples of speech (B,) → frames (B, 1, D), frames that count (B,), all 1.

        The picture shows the speech of a clip alone, never its padding.
        """
        pictures = (self.picture(waves.float(), lengths.to(waves.device)) - self.mean) / self.std
        return self.pool(pictures)[:, None], torch.ones_like(lengths)

    def facts(self) -> dict[str, Any]:
        """All that the vectors depend on besides the samples, as JSON."""
        architecture = self.cnn.config.to_diff_dict()
        return {
            "class": type(self.cnn).__name__,
            "parameters": sum(parameter.numel() for parameter in self.cnn.parameters()),
            "dim": self.dim,
            "picture": {"bands": BANDS, "fft": FFT, "step": STEP, "size": SIZE, "colours": "viridis"} | self.statistics,
            "architecture": {key: value for key, value in architecture.items() if key not in PROVENANCE},
            "weights": fingerprint(self.cnn.state_dict().items()),
        }


def load(config: Any, window: WindowConfig, seed: int) -> Backbone:
    """The backbone of a config: see `load_encoder`."""
    encoder = load_encoder(config, seed)
    return Backbone(encoder, identify(config, window, encoder.facts(), encoder), config.frozen, one_frame)


def load_encoder(config: Any, seed: int = 0) -> DeepSpectrum:
    """The CNN of `config.path`, or with pretrained=false one of the same architecture with random weights from `seed`.

    Raises:
        EmoshareError: the checkpoint is not at hand, is no CNN that is supported, lacks a tensor or its normalisation,
            or is not of the size that the config says.
    """
    folder, kind, architecture = describe(config)
    if config.pretrained and folder:
        cnn = checkpoint.restore(kind, architecture, folder)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cnn = kind._from_config(architecture, dtype=torch.float32)
    encoder = DeepSpectrum(cnn.eval(), **statistics(config, folder))
    verify_sizes(config, encoder)
    return encoder


def check(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError where a checkpoint is no CNN that is supported, or not of the config's size."""
    folder, kind, architecture = describe(config)
    with torch.device("meta"):
        cnn = kind._from_config(architecture, dtype=torch.float32)
    verify_sizes(config, DeepSpectrum(cnn.eval(), **statistics(config, folder)))


def describe(config: Any) -> tuple[Path | None, Any, Any]:
    """Folder of a checkpoint, class of its CNN, and transformers' config. EmoshareError for another kind of model."""
    import transformers

    folder = checkpoint.locate(config)
    values = read_json(folder / "config.json", FETCH_AGAIN) if folder else {"model_type": "resnet"}
    kind = str(values.get("model_type"))
    if kind not in CNNS:
        raise EmoshareError(
            f"backbone.path={config.path}: its model_type is {kind}; deepspectrum takes one of {', '.join(CNNS)}"
        )
    architecture = parse(getattr(transformers, CNNS[kind] + "Config"), values, folder or config.path)
    return folder, getattr(transformers, CNNS[kind] + "Model"), architecture


def statistics(config: Any, folder: Path | None) -> dict[str, list[float]]:
    """Mean and standard deviation of each colour that the CNN was trained with, from its own preprocessor file."""
    file = folder / hub.PREPROCESSOR if folder else None
    if file is None or not file.is_file():
        if config.pretrained and folder:
            raise EmoshareError(
                f"backbone={config.name}: {config.path} has no {hub.PREPROCESSOR} at hand, and its pictures are "
                f"normalised by it; run {hub.command(config, hub.PREPROCESSOR)} where there is a network"
            )
        return dict(IMAGENET)
    values = read_json(file, FETCH_AGAIN)
    if not values.get("do_normalize", True):
        return {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    chosen = {key: values.get(key, default) for key, default in IMAGENET.items()}
    for key, value in chosen.items():
        numbers = isinstance(value, list) and all(isinstance(x, int | float) and math.isfinite(x) for x in value)
        if not numbers or len(value) != 3 or (key == "image_std" and min(value) <= 0):
            raise EmoshareError(f"{file}: {key} is {value}, not three numbers; {FETCH_AGAIN}")
    return chosen


def verify_sizes(config: Any, encoder: DeepSpectrum) -> None:
    """Raise EmoshareError where the CNN is of another size than the config says."""
    facts = {"dim": encoder.dim, "parameters": sum(parameter.numel() for parameter in encoder.cnn.parameters())}
    for key, actual in facts.items():
        if (wanted := getattr(config, key)) not in (None, actual):
            raise EmoshareError(
                f"backbone.{key}={wanted}: the CNN of {config.path} has {actual}; set backbone.{key}={actual}"
            )
