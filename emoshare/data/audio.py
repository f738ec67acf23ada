"""From a sound file to samples at 16 kHz, decoded by libsndfile.

libsndfile reads a truncated wav as a shorter one, without an error. So the end of every file is checked here, and only
formats are accepted in which that is possible. N samples, C channels.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_regular
from emoshare.data.window import sample_count

FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")  # libsndfile's names; OGG is Vorbis or Opus
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz: what recorders make
RULES = 1  # of channels, resampling and scale: raise it when `read` gives other samples of the same file
KERNEL = 4_000_000  # weights of torchaudio's resampling filter, above which it takes gigabytes
Source = str | Path | IO[bytes]


@dataclass(frozen=True)
class Info:
    rate: int  # samples per second
    channels: int
    samples: int  # per channel

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


@contextmanager
def contents(source: Source, max_mb: float | None) -> Iterator[tuple[bytes, int | io.BytesIO]]:
    """The bytes of a file, and what libsndfile is to read: a file on disk by its number, free of Python's lock.

    OSError; ValueError for pipes, devices and what is too large.
    """
    if not isinstance(source, str | Path):
        data = source.read(-1 if max_mb is None else int(max_mb * 1e6) + 1)
        check_size(len(data), max_mb)
        yield data, io.BytesIO(data)
        return
    check_regular(source)
    check_size(os.stat(source).st_size, max_mb)
    with open(source, "rb", buffering=0) as file:
        data = file.read()
        file.seek(0)
        yield data, file.fileno()


def check_size(size: int, max_mb: float | None) -> None:
    if max_mb is not None and size > max_mb * 1e6:
        raise ValueError(f"more than {max_mb:g} MB; split it, or raise data.max_mb")


@contextmanager
def opened(source: Source, max_mb: float | None = None) -> Iterator[tuple[Info, Any, bytes]]:
    """The header of a sound file, the file open for decoding, and its bytes. ValueError says what is wrong with it."""
    import soundfile

    with contents(source, max_mb) as (data, file):
        if not data:
            raise ValueError("empty file")
        check_complete(data)
        try:
            with soundfile.SoundFile(file, closefd=False) as sound:
                info = Info(sound.samplerate, sound.channels, sound.frames)
                check_header(info, sound.format)
                check_size(2 * info.samples * info.channels, max_mb)  # a small file may hold hours of silence
                yield info, sound, data
        except soundfile.LibsndfileError as error:
            unknown = error.code == 1
            raise ValueError("not a sound file" if unknown else f"cannot be decoded: {error.error_string}") from None


def check_header(info: Info, kind: str) -> None:
    """Raise ValueError for what a header may not say; `kind` is libsndfile's name of the format."""
    if kind not in FORMATS:
        raise ValueError(f"{kind} is not read, as its end cannot be checked; convert it to WAV or FLAC")
    if not info.samples:
        raise ValueError("no samples in the file")
    if info.samples == 2**63 - 1:  # libsndfile's way to say that the header does not tell
        raise ValueError("the header does not say how many samples there are; convert it to WAV")
    if not LOWEST_RATE <= info.rate <= HIGHEST_RATE:
        raise ValueError(f"sample rate of {info.rate} Hz: must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz")


def check_complete(data: bytes) -> None:
    """Raise ValueError where the file ends before the samples that its own headers promise.

    WAV and AIFF: the size of the chunk that holds the samples. OGG: the last page is whole and marked as the last one.
    """
    if data[:4] in (b"RIFF", b"FORM"):
        layout, samples = ("<4sI", b"data") if data[:4] == b"RIFF" else (">4sI", b"SSND")
        at, name, size = 12, b"", 0
        while name != samples and at + 8 <= len(data):
            name, size = struct.unpack_from(layout, data, at)
            at += 8 + (0 if name == samples else size + size % 2)  # chunks begin at even bytes
        if name == samples and not size:
            raise ValueError("no samples in the file")
        if name == samples and size > len(data) - at:
            raise ValueError(f"truncated: the header promises {size} bytes of samples, there are {len(data) - at}")
    elif data[:4] == b"OggS":
        last = data[data.rfind(b"OggS") :]
        if len(last) < 27 or not last[5] & 4 or len(last) < 27 + last[26] + sum(last[27 : 27 + last[26]]):
            raise ValueError("truncated: the last page of the OGG stream is missing")


def inspect(source: Source, max_mb: float | None = None) -> tuple[Info, bytes]:
    """What a file holds, known to be decodable, and its bytes. Uncompressed integers need no decoding for that.

    ValueError says what is wrong with the file, without its name; OSError.
    """
    with opened(source, max_mb) as (found, sound, data):
        if sound.format not in ("WAV", "WAVEX", "AIFF") or not sound.subtype.startswith("PCM"):
            samples(found, sound)
    return found, data


def samples(info: Info, sound: Any) -> np.ndarray:
    """(N,) or (N, C) float32 of an open sound file, integers scaled to [-1, 1)."""
    wave = sound.read(dtype="float32")
    if len(wave) < info.samples:
        raise ValueError(f"truncated: the header promises {info.samples} samples, there are {len(wave)}")
    if not np.isfinite(wave).all():
        raise ValueError("NaN or infinite samples")
    return wave


@contextmanager
def named(source: Source) -> Iterator[None]:
    """Turn what is wrong with a file into an EmoshareError that names it."""
    name = source if isinstance(source, str | Path) else getattr(source, "name", "audio")
    try:
        yield
    except OSError as error:
        raise EmoshareError(f"{name}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise EmoshareError(f"{name}: {error}; replace the file, or leave it out") from None


def info(source: Source, max_mb: float | None = None) -> Info:
    """Rate, channels and duration of a sound file, from its header. EmoshareError as `read`."""
    with named(source), opened(source, max_mb) as (found, _, _):
        return found


def read(source: Source, max_mb: float | None = None, sha256: bytes | None = None) -> np.ndarray:
    """A sound file as (N,) float32 in [-1, 1): mono (channels averaged), 16 kHz (resampled where it is not).

    Args:
        source: a path, or a file opened for reading bytes: WAV, FLAC, OGG, MP3 or AIFF.
        max_mb: the largest file accepted, and the most samples at two bytes each; None: no limit.
        sha256: what the file's bytes must come to; None: anything.

    Raises:
        EmoshareError: the file cannot be read, is truncated, empty, too large, has changed, or holds NaN.
    """
    with named(source), opened(source, max_mb) as (found, sound, data):
        if sha256 is not None and hashlib.sha256(data).digest() != sha256:
            raise EmoshareError(f"{source}: has changed since it was checked; run the command again")
        wave = samples(found, sound)
    return at_16k(wave, found.rate)


def at_16k(wave: np.ndarray, rate: int) -> np.ndarray:
    """(N,) or (N, C) float32 at any rate → (M,) mono, channels averaged, at 16 kHz."""
    seconds = len(wave) / rate
    if wave.ndim > 1:
        wave = wave.mean(axis=1)
    if rate == RATE:
        return wave
    wave = resampler(rate)(wave)
    count = sample_count(seconds)  # as many as the corpus and the window expect
    return np.pad(wave[:count], (0, max(count - len(wave), 0)))


@lru_cache(maxsize=16)
def resampler(rate: int) -> Callable[[np.ndarray], np.ndarray]:
    """(N,) at `rate` → 16 kHz, the filter computed once per rate.

    torchaudio's filter has up × down weights: few for 8 to 96 kHz as recorders use them, gigabytes for odd rates, as
    11,127 Hz. There scipy's polyphase filter takes 20 weights per max(up, down) instead.
    """
    up, down = RATE // math.gcd(rate, RATE), rate // math.gcd(rate, RATE)
    if up * down <= KERNEL:
        import torch
        import torchaudio

        transform = torchaudio.transforms.Resample(rate, RATE)
        return lambda wave: transform(torch.from_numpy(wave)).numpy()
    from scipy.signal import firwin, resample_poly

    steps = max(up, down)
    weights = firwin(20 * steps + 1, 1 / steps, window=("kaiser", 5.0)).astype(np.float32)  # scipy's own default
    return lambda wave: resample_poly(wave, up, down, window=weights)
