"""From a sound file to samples at 16 kHz, decoded by libsndfile.

The length that a file's own bytes promise (`data/formats`) is compared with the decoded one: all of it is read, or
the file is refused. N samples, C channels.
"""

from __future__ import annotations

import hashlib
import io
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_regular
from emoshare.data.channels import mono
from emoshare.data.formats import name_of, streams
from emoshare.data.resampling import resample
from emoshare.data.spans import Span, split_name
from emoshare.data.window import sample_count

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")  # libsndfile's names; OGG is Vorbis, Opus or FLAC
SEEKING = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC")  # any sample is found at once in these, of a fixed size each:
PLAIN = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
LOCKS = [Lock() for _ in range(16)]  # of recordings, by their hashes
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz: what recorders make
RULES = 2  # of channels, resampling and scale: raise it when `read` gives other samples of the same file
OVERSHOOT = 2.0  # of full scale: float samples may go so far beyond it, as mixing and resampling leave them
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
    check_size(Path(source).stat().st_size, max_mb)
    with Path(source).open("rb", buffering=0) as file:
        data = file.read()
        file.seek(0)
        yield data, file.fileno()


def check_size(size: int, max_mb: float | None) -> None:
    if max_mb is not None and size > max_mb * 1e6:
        raise ValueError(f"more than {max_mb:g} MB; split it, or raise data.max_mb")


@contextmanager
def open_audio(source: Source, max_mb: float | None = None) -> Iterator[tuple[Info, list[Any], bytes]]:
    """The header of a sound file, its streams open for decoding, and its bytes. ValueError says what is wrong."""
    import soundfile

    with contents(source, max_mb) as (data, file), ExitStack() as stack:
        if not data:
            raise ValueError("empty file")
        parts = streams(data)
        inputs = [file] if not parts or parts[0] is data else map(io.BytesIO, parts)
        try:
            sounds = [stack.enter_context(soundfile.SoundFile(part, closefd=False)) for part in inputs]
        except soundfile.LibsndfileError as error:
            if error.code == 1 or not parts:
                raise format_error(source, name_of(data)) from None
            raise ValueError(f"cannot be decoded ({error.error_string}); convert it: {conversion(source)}") from None
        if not parts or sounds[0].format not in FORMATS:
            raise format_error(source, name_of(data) or sounds[0].format)
        info = Info(sounds[0].samplerate, sounds[0].channels, sum(sound.frames for sound in sounds))
        check_header(info, sounds)
        check_size(2 * info.samples * info.channels, max_mb)  # a small file may hold hours of silence
        try:
            yield info, sounds, data
        except soundfile.LibsndfileError as error:
            raise ValueError(f"truncated or damaged: cannot be decoded to its end ({error.error_string})") from None


def format_error(source: Source, kind: str) -> ValueError:
    """The error for a file of another format, with the line that converts it."""
    return ValueError(f"{kind} is not read; convert it: {conversion(source)}" if kind else "not a sound file")


def conversion(source: Source) -> str:
    """The command that makes a file of another format one that is read."""
    path = Path(source if isinstance(source, str | Path) else getattr(source, "name", "FILE"))
    to = path.with_name(f"{path.stem}{'.flac' if path.suffix.lower() == '.wav' else '.wav'}")
    return f"ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(to))}"


def check_header(info: Info, sounds: list[Any]) -> None:
    """Raise ValueError for what the headers of a file's streams may not say."""
    if any((sound.samplerate, sound.channels) != (info.rate, info.channels) for sound in sounds):
        raise ValueError("joined of parts with different sample rates or channels; convert each by itself")
    if not info.samples:
        raise ValueError("no samples in the file")
    if info.samples >= 2**62:  # libsndfile's way to say that the header does not tell
        raise ValueError("the header does not say how many samples there are; convert it to WAV")
    if not LOWEST_RATE <= info.rate <= HIGHEST_RATE:
        raise ValueError(f"sample rate of {info.rate} Hz: must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz")


def samples(info: Info, sounds: list[Any], scale: float | None = None) -> np.ndarray:
    """(N,) or (N, C) float32 of open streams. Integers are scaled to [-1, 1), floats as `apply_scale` does."""
    waves = [sound.read(min(sound.frames, info.samples), dtype="float32") for sound in sounds]  # some cannot seek
    wave = waves[0] if len(waves) == 1 else np.concatenate(waves)
    if len(wave) < info.samples:
        raise ValueError(f"truncated: the header promises {info.samples} samples, there are {len(wave)}")
    return apply_scale(wave, scale) if sounds[0].subtype in ("FLOAT", "DOUBLE") else finite(wave)


def finite(wave: np.ndarray) -> np.ndarray:
    """The samples themselves. ValueError where some are no numbers."""
    if not np.isfinite(wave).all():
        raise ValueError("NaN or infinite samples")
    return wave


def apply_scale(wave: np.ndarray, scale: float | None) -> np.ndarray:
    """Samples of which nothing says how loud they are → float32: divided by `scale`, which stands for full scale.

    ValueError where they go further beyond full scale than overshoot does, NaN included.
    """
    wave = finite((wave / (scale or 1)).astype(np.float32))
    peak = float(np.abs(wave).max(initial=0)) * (scale or 1)
    if peak > OVERSHOOT * (scale or 1):
        likely = 2.0 ** next((bits for bits in (7, 15, 23) if peak <= OVERSHOOT * 2**bits), 31)
        raise ValueError(
            f"float samples up to {peak:.9g}, where {scale or 1:.9g} is full scale; say what full scale is: "
            f"--scale {likely:.0f} (data.scale of a corpus, scale= in Python)"
        )
    return wave


def inspect(source: Source, max_mb: float | None = None, scale: float | None = None) -> tuple[Info, bytes, np.ndarray]:
    """The header of a file, its bytes, and its samples as `samples` gives them.

    Of a segment (`spans`) its own samples, and in place of bytes the digest of its file and its place in it.
    ValueError says what is wrong with the file, without its name; OSError.
    """
    if isinstance(source, str | Path):
        file, span = split_name(str(source))
        if span is not None:
            return inspect_segment(file, span, max_mb, scale)
    with open_audio(source, max_mb) as (header, sounds, data):
        return header, data, samples(header, sounds, scale)


def inspect_segment(
    file: str, span: Span, max_mb: float | None, scale: float | None
) -> tuple[Info, bytes, np.ndarray]:  # fmt: skip
    """As `inspect`, of a stretch of a recording: the samples that lie nearest to its times, at the file's own rate."""
    status = Path(file).stat()
    known = file, max_mb, scale, (status.st_size, status.st_mtime_ns)
    with LOCKS[hash(known) % len(LOCKS)]:  # threads would all decode the same one
        whole, sha256, exact = recording(*known)
        every = None if exact else decode_recording(*known)
    first, last = span.samples(whole.rate, whole.samples)
    part, place = Info(whole.rate, whole.channels, last - first), f"#{first},{last}".encode()
    wave = stretch(file, part, first, scale) if every is None else every[first:last].copy()
    return part, sha256 + place, wave


def stretch(file: str, part: Info, first: int, scale: float | None) -> np.ndarray:
    """The samples of a part of a recording that is known to be whole, from the `first` on."""
    import soundfile

    try:
        with Path(file).open("rb", buffering=0) as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as sound:
            sound.seek(first)
            return samples(part, [sound], scale)
    except soundfile.LibsndfileError as error:  # it has changed
        raise ValueError(f"cannot be decoded ({error.error_string})") from None


@lru_cache(maxsize=2**16)
def recording(
    file: str, max_mb: float | None, scale: float | None, state: tuple[int, int]
) -> tuple[Info, bytes, bool]:  # fmt: skip
    """The header of a recording, the SHA-256 of its bytes, and whether a part of it can be read by itself.

    It is decoded as a whole first. state: of the file, by which it is known.
    """
    with open_audio(file, max_mb) as (header, sounds, data):
        samples(header, sounds, scale)
        [first, *others] = sounds
        exact = not others and isinstance(first.name, int) and first.format in SEEKING and first.subtype in PLAIN
        return header, hashlib.sha256(data).digest(), exact


@lru_cache(maxsize=4)  # segments of a recording follow each other in tables
def decode_recording(file: str, max_mb: float | None, scale: float | None, state: tuple[int, int]) -> np.ndarray:
    """All samples of a recording, as `inspect` has them. state: as of `recording`."""
    with open_audio(file, max_mb) as (header, sounds, _):
        return samples(header, sounds, scale)


@contextmanager
def name_errors(source: Source) -> Iterator[None]:
    """Turn an error in a file into an EmoshareError that names it."""
    name = source if isinstance(source, str | Path) else getattr(source, "name", "audio")
    try:
        yield
    except OSError as error:
        raise EmoshareError(f"{name}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        remedy = "" if "; " in str(error) else "; replace the file, or leave it out"
        raise EmoshareError(f"{name}: {error}{remedy}") from None


def info(source: Source, max_mb: float | None = None) -> Info:
    """Rate, channels and duration of a sound file, from its header. EmoshareError as `read`."""
    with name_errors(source), open_audio(source, max_mb) as (header, _, _):
        return header


def read(
    source: Source, max_mb: float | None = None, sha256: bytes | None = None, scale: float | None = None
) -> np.ndarray:
    """A sound file as (N,) float32 in [-1, 1]: mono (channels averaged), 16 kHz (resampled where it is not).

    Args:
        source: a path, also of a segment, or a file opened for reading bytes: WAV, FLAC, OGG, MP3 or AIFF.
        max_mb: the largest file accepted, and the most samples at two bytes each; None: no limit.
        sha256: the digest that the bytes of `inspect` must have; None: any.
        scale: the value that stands for full scale in files of floats; None: 1.

    Raises:
        EmoshareError: the file cannot be read, is truncated, empty, too large, has changed, or holds NaN; or its
            channels cancel to silence.
    """
    with name_errors(source):
        header, data, wave = inspect(source, max_mb, scale)
        if sha256 is not None and hashlib.sha256(data).digest() != sha256:
            raise EmoshareError(f"{source}: has changed since it was checked; run the command again")
        return at_16k(wave, header.rate)


def at_16k(wave: np.ndarray, rate: int) -> np.ndarray:
    """(N,) or (N, C) float32 at any rate → (M,) mono, channels averaged, at 16 kHz. ValueError as `mono`."""
    count = sample_count(len(wave) / rate)  # as many as the corpus and the window expect
    return mono(wave) if rate == RATE else resample(mono(wave), rate, RATE, count)
