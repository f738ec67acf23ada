"""Prosody: what a voice does, measured frame by frame: (B, N) → (B, T, D), 50 frames per second, nothing learned.

CHANNELS names the D features: pitch and voicing (emoshare.backbones.pitch), loudness, the shape of the spectrum,
mel-frequency cepstral coefficients; then the change over time of each. Each clip is measured from its own samples
alone; matrix products are taken in float64, so that the size of the batch changes no digit of the float32 results.
Alpha ratio, Hammarberg index and spectral slopes follow eGeMAPS (F. Eyben et al., IEEE Trans. Affective Computing 7,
2016).

Shapes: B clips, N samples (16,000 per second), T frames of 25 ms every 20 ms, F frequencies, D features.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.backbones import fourier, pitch
from emoshare.backbones.base import Backbone, check_dim, identify
from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames
from emoshare.core.config import HOP, RATE, SHORTEST, WindowConfig
from emoshare.core.errors import UnusableClips
from emoshare.core.masks import length_mask
from emoshare.data.window import frame_count

VERSION = 1  # of the features: raise it when the same samples give other frames
BINS = 512  # samples of the FFT
FLOOR = 1e-10  # of a power: −100 dB
VOICED = 0.5  # clarity from which on a frame is voiced
QUIET = 40.0  # dB below the clip's loudest frame under which no frame is voiced
BANDS = (0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000)  # Hz, edges
MELS, CEPSTRA = 26, 13
ROLLOFF = (0.25, 0.5, 0.75, 0.9)  # of the energy
REACH = 2  # frames to each side of a delta
VOICE = ("voicing", "pitch", "clarity", "harmonicity", "pitch change", "loudness change")
SPECTRUM = (
    "loudness", "tilt", "slope 0-500", "slope 500-1500", "alpha ratio", "hammarberg", "centroid", "spread", "flatness",
    *(f"roll-off {round(100 * part)}" for part in ROLLOFF), "flux",
    *(f"band {low}-{high}" for low, high in pairwise(BANDS)),
    *(f"mfcc {i}" for i in range(1, CEPSTRA + 1)),
)  # fmt: skip
STILL = VOICE + SPECTRUM
CHANNELS = STILL + tuple(f"delta {name}" for name in STILL[1:])


def decibel(power: Tensor) -> Tensor:
    return 10 * power.clamp(min=FLOOR).log10()


class ProsodyEncoder(Float32):
    """Samples → CHANNELS. `voicing` is the place of the feature that is 1 in voiced frames and 0 in others."""

    dim = len(CHANNELS)
    voicing = CHANNELS.index("voicing")
    taper: Tensor  # (400,)
    hertz: Tensor  # (F,)
    mel: Tensor  # (F, MELS)
    dct: Tensor  # (MELS, CEPSTRA)

    def __init__(self) -> None:
        super().__init__()
        from torchaudio.functional import create_dct, melscale_fbanks

        self.register_buffer("taper", torch.hann_window(SHORTEST))
        self.register_buffer("hertz", torch.linspace(0, RATE / 2, BINS // 2 + 1))
        mel = melscale_fbanks(BINS // 2 + 1, 20.0, RATE / 2, MELS, RATE, mel_scale="htk")
        self.register_buffer("mel", mel.double())
        self.register_buffer(
            "dct", create_dct(CEPSTRA + 1, MELS, "ortho")[:, 1:].double()
        )  # the sum is the loudness again

    def facts(self) -> dict[str, Any]:
        """All that the frames depend on."""
        return {
            "class": type(self).__name__,
            "parameters": 0,
            "dim": self.dim,
            "features": VERSION,
            "voicing": self.voicing,
            "step": 1,  # clips need not be cut down to whole frames
        }

    @torch.no_grad()
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) and samples of each clip (B,) → frames (B, T, D) float32, and frames that count (B,).

        Frames that don't count are zeros. Raises UnusableClips for clips of fewer than 400 samples.
        """
        if short := [row for row, length in enumerate(lengths.tolist()) if length < SHORTEST]:
            raise UnusableClips(short, f"a frame takes {SHORTEST / RATE:g} s")
        lengths = lengths.to(waves.device)
        waves = torch.where(length_mask(lengths, waves.shape[1]), waves.float(), 0.0)
        counts = 1 + (lengths - SHORTEST) // HOP
        mask = length_mask(counts, frame_count(waves.shape[1]))  # (B, T)
        power = self.power(waves)
        loudness = decibel(power.mean(2))
        features = torch.cat([self.voice(waves, loudness, mask), self.spectrum(power, loudness)], 2)
        changes = deltas(features[..., 1:], counts)
        return torch.cat([features, changes], 2) * mask[..., None], counts

    def power(self, waves: Tensor) -> Tensor:
        """(B, N) → power spectrum (B, T, F) of Hann-windowed frames."""
        return fourier.power(cut_frames(waves, SHORTEST, HOP) * self.taper, BINS) / BINS

    def voice(self, waves: Tensor, loudness: Tensor, mask: Tensor) -> Tensor:
        """VOICE: (B, N), (B, T), (B, T) → (B, T, 6). Pitch in semitones over 100 Hz, 0 where unvoiced."""
        hertz, clarity = pitch.track(waves, mask.shape[1])
        loudest = torch.where(mask, loudness, -torch.inf).amax(1, keepdim=True)
        voiced = (clarity >= VOICED) & (loudness > loudest - QUIET) & mask
        semitones = torch.where(voiced, 12 * (hertz / 100).log2(), 0.0)
        pure = clarity.clamp(1e-3, 1 - 1e-3)
        harmonicity = 10 * (pure / (1 - pure)).log10()
        both = nn.functional.pad(voiced[:, 1:] & voiced[:, :-1], (1, 0))
        steps = [nn.functional.pad((x[:, 1:] - x[:, :-1]).abs(), (1, 0)) * both for x in (semitones, loudness)]
        return torch.stack([voiced.float(), semitones, clarity, harmonicity, *steps], 2)

    def spectrum(self, power: Tensor, loudness: Tensor) -> Tensor:
        """SPECTRUM: (B, T, F), (B, T) → (B, T, …)."""
        hertz = self.hertz
        level = decibel(power)
        share = power / power.sum(2, keepdim=True).clamp(min=FLOOR)
        centroid = (share * hertz).sum(2)
        spread = ((hertz - centroid[..., None]).square() * share).sum(2).sqrt()
        flatness = level.mean(2) - loudness
        grown = share.cumsum(2)
        rolloff = [hertz[(grown < part).sum(2).clamp(max=len(hertz) - 1)] / 1000 for part in ROLLOFF]
        root = share.sqrt()
        flux = nn.functional.pad((root[:, 1:] - root[:, :-1]).square().sum(2).sqrt(), (1, 0))
        bands = [decibel(self.between(power, low, high)) for low, high in pairwise(BANDS)]
        alpha = decibel(self.between(power, 1000, 5000)) - decibel(self.between(power, 50, 1000))
        hammarberg = self.peak(level, 0, 2000) - self.peak(level, 2000, 5000)
        values = [
            loudness, self.slope(level, 100, 5000, octaves=True), self.slope(level, 0, 500),
            self.slope(level, 500, 1500), alpha, hammarberg, centroid / 1000, spread / 1000, flatness, *rolloff, flux,
            *(band - loudness for band in bands),
        ]  # fmt: skip
        cepstra = (power.double() @ self.mel).clamp(min=FLOOR).log() @ self.dct  # (B, T, CEPSTRA)
        return torch.cat([torch.stack(values, 2), cepstra.float()], 2)

    def within(self, low: float, high: float) -> Tensor:
        return (self.hertz >= low) & (self.hertz < high)

    def between(self, power: Tensor, low: float, high: float) -> Tensor:
        """Mean power of the frequencies from low to high Hz, (B, T)."""
        return power[..., self.within(low, high)].mean(-1)

    def peak(self, level: Tensor, low: float, high: float) -> Tensor:
        return level[..., self.within(low, high)].amax(-1)

    def slope(self, level: Tensor, low: float, high: float, octaves: bool = False) -> Tensor:
        """The least-squares slope of the spectrum in dB per kHz, or per octave, (B, T)."""
        kept = self.within(low, high)
        place = self.hertz[kept].log2() if octaves else self.hertz[kept] / 1000
        place = place - place.mean()
        return (level[..., kept] * (place / place.square().sum())).sum(-1)


def deltas(features: Tensor, counts: Tensor) -> Tensor:
    """Change per frame, by regression over REACH frames to each side: (B, T, D), (B,) → (B, T, D).

    Δ[t] = Σ_k k · (x[t + k] − x[t − k]) / 2 Σ_k k². Beyond its ends a clip is taken to stay as it is.
    """
    place = torch.arange(features.shape[1], device=features.device)
    last = (counts - 1)[:, None]
    result = torch.zeros_like(features)
    for k in range(1, REACH + 1):
        ahead, behind = ((place + step)[None].clamp(min=0).minimum(last) for step in (k, -k))
        at = [i[..., None].expand(-1, -1, features.shape[2]) for i in (ahead, behind)]
        result += k * (features.gather(1, at[0]) - features.gather(1, at[1]))
    return result / (2 * sum(k * k for k in range(1, REACH + 1)))


def check(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError for another number of features than CHANNELS has."""
    check_dim(config, ProsodyEncoder.dim)


def load(config: Any, window: WindowConfig) -> Backbone:
    """The backbone of a config; nothing in it is learned."""
    encoder = ProsodyEncoder()
    return Backbone(encoder, identify(config, window, encoder.facts(), encoder))
