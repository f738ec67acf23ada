"""What frames are wanted of: windows of a corpus's clips, of sound files, or anything with keys. Shapes: N clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.data import audio
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
    ) -> None:
        """Files, the sha256 of their bytes and their durations, (N,) each. Raises EmoshareError for a random crop."""
        if window.crop == "random":
            raise EmoshareError(
                "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
            )
        self.paths, self.digests, self.window = paths, digests, window
        self.about = f"{name}, {window.seconds:g} s, pad={window.pad}, crop={window.crop}"
        lengths = [sample_count(duration) for duration in seconds]
        self.kept = np.array([window.length(n) for n in lengths], np.int64)
        self.sizes = np.full_like(self.kept, window.samples) if window.pad == "zeros" else self.kept
        seen = self.sizes if sees_padding else self.kept
        cuts = zip(digests, map(window.start, lengths), self.kept.tolist(), seen.tolist(), strict=True)
        self.keys = [sample_key(*cut) for cut in cuts]

    @classmethod
    def of_corpus(cls, corpus: Corpus, window: Window, sees_padding: bool) -> Windows:
        """Of all clips, in corpus-wide order. Nothing is read."""
        paths = [corpus.path(file) for file in corpus.files]
        return cls(corpus.name, paths, corpus.digests, corpus.seconds.tolist(), window, sees_padding)

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
        return str(self.paths[row])

    def read(self, row: int) -> np.ndarray:
        return self.window.cut(audio.read(self.paths[row], sha256=self.digests[row]))
