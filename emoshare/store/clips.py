"""What frames are wanted of: windows of a corpus's clips or of sound files, or anything with keys. Shapes: N clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.variants import Variant
from emoshare.data import audio
from emoshare.data.augment import augmented, digest, length
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window, sample_count
from emoshare.store.recipe import sample_key


class Clips(Protocol):
    """What `frames_of` takes. A row is a clip's place among them."""

    about: str  # for people, in one line
    keys: list[bytes]  # (N,) of `sample_key`
    kept: np.ndarray  # (N,) samples of speech that the backbone sees
    sizes: np.ndarray  # (N,) samples with padding

    def name(self, row: int) -> str:
        """What errors call it: its file."""

    def read(self, row: int) -> np.ndarray:
        """Its samples (kept,), float32, of which `keys` tells. EmoshareError where they are not to be had."""


class Windows:
    """A window of each of some sound files: `Clips`."""

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        digests: Sequence[bytes],
        seconds: Sequence[float],
        window: Window,
        sees_padding: bool,
        variants: Sequence[Variant | None] = (),
    ) -> None:
        """Files, the sha256 of their bytes and their durations, (N,) each. Raises EmoshareError for a random crop.

        variants: what is done to each of them before the window is cut; empty for nothing.
        """
        if window.crop == "random":
            raise EmoshareError(
                "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
            )
        self.paths, self.digests, self.window = paths, digests, window
        self.variants = variants or [None] * len(paths)
        self.about = f"{name}, {window.seconds:g} s, pad={window.pad}, crop={window.crop}"
        lengths = [sample_count(duration) for duration in seconds]
        lengths = [n if v is None else length(v, n) for n, v in zip(lengths, self.variants, strict=True)]
        digests = [d if v is None else digest(v, d) for d, v in zip(digests, self.variants, strict=True)]
        self.kept = np.array([window.length(n) for n in lengths], np.int64)
        self.sizes = np.full_like(self.kept, window.samples) if window.pad == "zeros" else self.kept
        seen = self.sizes if sees_padding else self.kept
        cuts = zip(digests, map(window.start, lengths), self.kept.tolist(), seen.tolist(), strict=True)
        self.keys = [sample_key(*cut) for cut in cuts]

    @classmethod
    def of_corpus(
        cls, corpus: Corpus, window: Window, sees_padding: bool, further: Sequence[tuple[int, Variant]] = ()
    ) -> Windows:
        """Of all clips, in corpus-wide order. Nothing is read.

        further: rows of clips with a variant of each, which follow them.
        """
        rows = [*range(len(corpus.files)), *(row for row, _ in further)]
        variants = [*[None] * len(corpus.files), *(variant for _, variant in further)]
        paths = [corpus.path(corpus.files[row]) for row in rows]
        digests, seconds = [corpus.digests[row] for row in rows], corpus.seconds[rows].tolist()
        return cls(corpus.name, paths, digests, seconds, window, sees_padding, variants)

    @classmethod
    def of_files(cls, paths: Sequence[Path], window: Window, sees_padding: bool) -> Windows:
        """Of any sound files, which are read once for it. Raises EmoshareError as `audio.read`."""
        digests, seconds = [], []
        for path in paths:
            with audio.named(path):
                info, data = audio.inspect(path)
            digests.append(hashlib.sha256(data).digest())
            seconds.append(info.seconds)
        return cls("files", paths, digests, seconds, window, sees_padding)

    def name(self, row: int) -> str:
        variant = self.variants[row]
        return str(self.paths[row]) if variant is None else f"{self.paths[row]} ({variant})"

    def read(self, row: int) -> np.ndarray:
        wave, variant = audio.read(self.paths[row], sha256=self.digests[row]), self.variants[row]
        return self.window.cut(wave if variant is None else augmented(variant, wave, self.digests[row]))
