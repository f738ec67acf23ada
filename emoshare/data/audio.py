"""A clip on its way from the wav file to the window that the backbone sees.

N samples at 16 kHz. Wav files are parsed here rather than by scipy, which reads a truncated file with a mere warning:
the corpus check and `read` share one parser, so what the check lets through can be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.data.window import sample_count

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # wave format tags; EXTENSIBLE carries the true one further on
FORMATS = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "3u1", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


@dataclass(frozen=True)
class Header:
    rate: int  # samples per second
    channels: int
    samples: int  # per channel
    format: str  # numpy's name of one sample
    start: int  # byte at which the samples begin

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def parse(data: bytes) -> Header:
    """The header of a whole wav file in memory. ValueError says what is wrong with the file, without its name."""
    if not data:
        raise ValueError("empty file")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("not a wav file (no RIFF/WAVE header)")
    chunks = {}
    at = 12
    while at + 8 <= len(data) and b"data" not in chunks:
        name, size = struct.unpack_from("<4sI", data, at)
        chunks[name] = (at + 8, size)
        at += 8 + size + size % 2  # chunks begin at even bytes
    if b"fmt " not in chunks or b"data" not in chunks:
        raise ValueError(f"truncated wav: no {'samples' if b'fmt ' in chunks else 'format'} in {len(data)} bytes")
    start, size = chunks[b"data"]
    if size > len(data) - start:
        raise ValueError(f"truncated wav: the header promises {size} bytes of samples, there are {len(data) - start}")
    return describe(data, chunks[b"fmt "], start, size)


def describe(data: bytes, chunk: tuple[int, int], start: int, size: int) -> Header:
    """The header from its format chunk (first byte, bytes) and the place of its samples."""
    at, length = chunk
    if length < 16:
        raise ValueError(f"broken wav: format chunk of {length} bytes")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if tag == EXTENSIBLE and length >= 26:
        (tag,) = struct.unpack_from("<H", data, at + 24)
    if (tag, bits) not in FORMATS:
        raise ValueError(f"wav of format {tag} with {bits} bits: only PCM of 8 to 32 bits and float are read")
    if not channels or not rate:
        raise ValueError(f"broken wav: {channels} channels at {rate} Hz")
    samples = size // (channels * bits // 8)
    if not samples:
        raise ValueError("wav without a single sample")
    header = Header(rate, channels, samples, FORMATS[tag, bits], start)
    if tag == FLOAT and not np.isfinite(raw(data, header)).all():
        raise ValueError("wav with NaN or infinite samples")
    return header


def raw(data: bytes, header: Header) -> np.ndarray:
    """Samples as they are stored, (N · channels,); 24-bit ones as (N · channels, 3) bytes."""
    return np.frombuffer(data, header.format, header.samples * header.channels, header.start)


def decode(data: bytes, header: Header) -> np.ndarray:
    """(N,) float32, channels averaged, integers scaled to [-1, 1)."""
    values = raw(data, header)
    if header.format == "3u1":  # 24 bits: the upper three bytes of an int32
        wide = np.zeros((len(values), 4), np.uint8)
        wide[:, 1:] = values
        values = wide.view("<i4")[:, 0]
    wave = values.astype(np.float32)
    if values.dtype.kind == "u":  # 8 bits: the one unsigned format
        wave -= 128
    if values.dtype.kind != "f":
        wave /= 2.0 ** (8 * values.dtype.itemsize - 1)
    return wave if header.channels == 1 else wave.reshape(-1, header.channels).mean(axis=1)


@cache
def resampler(rate: int) -> Callable:
    """torchaudio's resampler to 16 kHz, its filter computed once per rate."""
    import torchaudio

    return torchaudio.transforms.Resample(rate, RATE)


def read(path: str | Path) -> np.ndarray:
    """A wav file as (N,) float32 in [-1, 1): mono (channels averaged), 16 kHz (resampled where it is not).

    PCM of 8, 16, 24 and 32 bits and float of 32 and 64, also as WAVE_FORMAT_EXTENSIBLE.
    EmoshareError names the file and what is wrong with it.
    """
    try:
        data = Path(path).read_bytes()
        header = parse(data)
    except OSError as error:
        raise EmoshareError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise EmoshareError(f"{path}: {error}; replace the file, or take its row out of the label table") from None
    wave = decode(data, header)
    if header.rate == RATE:
        return wave
    import torch

    wave = resampler(header.rate)(torch.from_numpy(wave)).numpy()
    count = sample_count(header.seconds)  # torchaudio rounds in float32: one sample more or less
    return np.pad(wave[:count], (0, max(count - len(wave), 0)))
