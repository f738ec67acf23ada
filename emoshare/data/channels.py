"""From channels to one: their mean, unless they cancel in it. Shapes: N samples, C channels."""

from __future__ import annotations

import numpy as np

SILENT = 0.001  # of full scale, -60 dB: sound that deviates less from its mean (root mean square) is silence
CANCELLED = 0.25  # of the power that channels with nothing in common keep in their mean


def mono(wave: np.ndarray) -> np.ndarray:
    """(N,) or (N, C) → (N,), the mean of the channels. ValueError where they cancel to silence."""
    if wave.ndim == 1:
        return wave
    mean = wave.mean(axis=1)
    if mean.std() < SILENT and (lost := cancellation(wave)):
        raise ValueError(f"its channels cancel: {lost}, which is silence; keep one channel, or turn one round")
    return mean


def cancellation(wave: np.ndarray) -> str:
    """The loss of level in the mean of the channels (N, C), where they cancel; "" where they do not.

    The mean of C channels with nothing in common has 1/C of their power, that of equal ones all of it. Less than a
    quarter of 1/C is left where they are turned against each other: so of all channels, and of two with sound.
    """
    if wave.ndim == 1 or wave.shape[1] == 1 or len(wave) < 2:
        return ""
    covariance = np.cov(wave, rowvar=False)  # (C, C), of differences from each channel's mean
    channels = len(covariance)
    power = covariance.diagonal()
    if power.max() < SILENT**2:
        return ""
    kept = covariance.mean() / power.mean()
    if kept * channels < CANCELLED:
        return f"their mean is {decibel(kept)} softer than they are"
    pairs = power[:, None] + power
    shares = np.divide(pairs + 2 * covariance, 2 * pairs, out=np.ones_like(pairs), where=pairs > power.max() / 100)
    np.fill_diagonal(shares, 1.0)
    first, second = sorted(divmod(int(shares.argmin()), channels))
    if 2 * shares.min() < CANCELLED:
        return f"the mean of the {first + 1}. and {second + 1}. is {decibel(shares.min())} softer than they are"
    return ""


def decibel(share: float) -> str:
    """The loss of level in a share of the power."""
    return f"{-10 * np.log10(share):.0f} dB" if share > 1e-10 else "100 dB or more"
