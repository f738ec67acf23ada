"""Variants of a clip: another speed, by resampling; white noise and another level, by torchaudio.

A variant is made of the whole clip, before the window is cut. Its noise follows from the bytes of the sound file: a
variant has the same samples wherever and whenever it is made.

Shapes: N samples at 16 kHz.
"""

from __future__ import annotations

import hashlib
from math import gcd

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.variants import Variant
from emoshare.data.resampling import resample

VERSION = 2  # raise it when the same variant would have other samples


def rates(variant: Variant) -> tuple[int, int]:
    """From and to which rate a variant resamples, in lowest terms; 1, 1 where it does not."""
    if variant.kind != "speed":
        return 1, 1
    source = round(variant.value * RATE)
    common = gcd(source, RATE)
    return source // common, RATE // common


def length(variant: Variant, samples: int) -> int:
    """Samples of the variant of a clip of a number of samples."""
    source, target = rates(variant)
    return -(-samples * target // source)


def digest(variant: Variant, sha256: bytes) -> bytes:
    """A digest for the variant's samples, as the sha256 of a file is for its own."""
    return hashlib.sha256(sha256 + f" {variant} {VERSION}".encode()).digest()


def augment(variant: Variant, wave: np.ndarray, sha256: bytes) -> np.ndarray:
    """The variant of a clip (N,) → (length,) float32. sha256: of the clip's file, seeds the noise.

    speed: resampled as if it had been recorded at another rate, so that pitch changes, too. noise: white Gaussian, at
    the ratio over the whole clip. gain: samples may exceed 1.
    """
    if variant.kind == "speed":
        return resample(wave, *rates(variant), length(variant, len(wave)))
    import torch
    from torchaudio import functional

    samples = torch.from_numpy(np.ascontiguousarray(wave, np.float32))
    if variant.kind == "noise":
        rng = np.random.default_rng(np.frombuffer(digest(variant, sha256), np.uint32))
        noise = torch.from_numpy(rng.standard_normal(len(wave), np.float32))
        return functional.add_noise(samples, noise, torch.tensor(variant.value)).numpy()
    return functional.gain(samples, variant.value).numpy()
