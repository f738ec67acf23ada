"""What frames are wanted of: the clips of a corpus, cut to windows, or any others. Shapes: N clips."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.data import audio
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window, sample_count
from emoshare.store.recipe import sample_key


class Clips(Protocol):
    """What frames are wanted of: clips of a corpus, or any others. N clips; a row is a clip's place among them."""

    about: str  # for people, in one line
    keys: list[bytes]  # (N,) of `sample_key`
    kept: np.ndarray  # (N,) samples of speech that the backbone sees
    sizes: np.ndarray  # (N,) samples with padding

    def name(self, row: int) -> str:
        """What errors call it: its file."""

    def read(self, row: int) -> np.ndarray:
        """Its samples (kept,), float32, of which `keys` tells. EmoshareError where they are not to be had."""


class Windows:
    """The windows of a corpus's clips, in corpus-wide order: `Clips`."""

    def __init__(self, corpus: Corpus, window: Window, sees_padding: bool) -> None:
        """Raises EmoshareError for a random crop."""
        if window.crop == "random":
            raise EmoshareError(
                "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
            )
        self.corpus, self.window = corpus, window
        self.about = f"{corpus.name}, {window.seconds:g} s, pad={window.pad}, crop={window.crop}"
        lengths = [sample_count(seconds) for seconds in corpus.seconds.tolist()]
        self.kept = np.array([window.length(n) for n in lengths], np.int64)
        self.sizes = np.full_like(self.kept, window.samples) if window.pad == "zeros" else self.kept
        seen = self.sizes if sees_padding else self.kept
        starts = map(window.start, lengths)
        cuts = zip(corpus.digests, starts, self.kept.tolist(), seen.tolist(), strict=True)
        self.keys = [sample_key(*cut) for cut in cuts]

    def name(self, row: int) -> str:
        return str(self.corpus.path(self.corpus.files[row]))

    def read(self, row: int) -> np.ndarray:
        return self.window.cut(audio.read(self.name(row), sha256=self.corpus.digests[row]))
