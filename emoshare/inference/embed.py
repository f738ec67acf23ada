"""Embeddings: the frames of a backbone, or their mean and spread, as a table for a classifier of one's own.

Shapes: N samples, T frames of a window, D features of a frame, R rows, F numbers in a row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from emoshare.core.errors import EmoshareError, UnusableClips
from emoshare.core.files import replacing
from emoshare.inference.part import Encoder, Part
from emoshare.inference.reading import Reading
from emoshare.inference.recording import Cut, check_windows, cuts
from emoshare.inference.shares import INDEX, write_columns
from emoshare.models.functionals import pool
from emoshare.store.tensors import JoinedStore, TensorStore

log = logging.getLogger("emoshare")

POOLINGS = ("mean", "std", "mean_std", "frames")
SUFFIXES = (".npz", ".parquet", ".csv")
BATCH = 64  # stored clips that are read at once


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A table with a row per window, or per frame.

    Attributes:
        files: (R,) the recording of each row.
        start: (R,) seconds at which the window or frame begins.
        end: (R,) seconds at which it ends.
        values: (R, F) float32.
    """

    files: tuple[str, ...]
    start: np.ndarray
    end: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def write(self, path: str | Path) -> None:
        """Write an .npz (arrays files, start, end, embeddings), .parquet or .csv file, whole or not at all.

        Raises:
            EmoshareError: another suffix, or pyarrow is not installed.
        """
        path = Path(path)
        check_path(path)
        if path.suffix == ".npz":
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, files=np.array(self.files), start=self.start, end=self.end, embeddings=self.values)
            return
        names = [f"f{number}" for number in range(self.values.shape[1])]
        write_columns(path, (*INDEX, *names), (self.files, self.start, self.end), self.values)


@dataclass(frozen=True)
class Embedder:
    """An encoder with a pooling: mean, std, mean_std, or frames (none)."""

    encoder: Encoder
    pooling: str = "mean"

    def recordings(
        self, names: Sequence[str], waves: Sequence[np.ndarray], windows: float | None = None, step: float | None = None
    ) -> Embeddings:
        """Recordings (N,) at 16 kHz → a row per window, or per frame.

        Raises:
            UnusableClips: the backbone cannot work on some of the recordings, or gives frames that are not finite;
                it names their places.
        """
        encoder = self.encoder.resize(windows)
        windowed = [(row, cut) for row, wave in enumerate(waves) for cut in cuts(wave, encoder.window, step)]
        try:
            frames = encoder.frames([cut.samples for _, cut in windowed])
        except UnusableClips as error:
            raise UnusableClips(sorted({windowed[row][0] for row in error.rows}), error.reason) from None
        tables = [self.rows(names[row], cut, clip, encoder) for (row, cut), clip in zip(windowed, frames, strict=True)]
        owned = zip(windowed, tables, strict=True)
        if bad := sorted({row for (row, _), table in owned if not np.isfinite(table.values).all()}):
            raise UnusableClips(bad, "its frames are NaN or infinite")
        return join(tables)

    def gather(self, names: Sequence[str], seconds: Sequence[float], store: TensorStore | JoinedStore) -> Embeddings:
        """Embeddings of clips whose frames are stored. EmoshareError where all frames do not fit the memory."""
        if self.pooling == "frames":
            check_memory(store.nbytes(np.arange(len(names))) * 2)
        tables = []
        for rows, frames, counts in batches(store):
            for row, clip, count in zip(rows.tolist(), frames.float(), counts.tolist(), strict=True):
                cut = Cut(*self.encoder.span(seconds[row]), np.zeros(0, np.float32))
                tables.append(self.rows(names[row], cut, clip[:count], self.encoder))
        return join(tables)

    def rows(self, name: str, cut: Cut, frames: Tensor, encoder: Encoder) -> Embeddings:
        """The rows of one window, whose frames (T, D) are given."""
        frames = encoder.mix_states(frames).cpu()
        if self.pooling != "frames":
            pooled = pool(frames[None], torch.tensor([len(frames)]), self.pooling).numpy()
            return Embeddings((name,), np.array([cut.start]), np.array([cut.end]), pooled)
        padded = encoder.window.seconds if encoder.window.pad == "zeros" else cut.end - cut.start
        edges = cut.start + np.arange(len(frames) + 1) * padded / max(len(frames), 1)
        return Embeddings((name,) * len(frames), edges[:-1], edges[1:], frames.numpy())


def embed_files(
    embedder: Embedder,
    files: Sequence[Path],
    windows: float | None = None,
    step: float | None = None,
    scale: float | None = None,
) -> tuple[Embeddings, dict[str, str]]:
    """The rows of files, in their order, and what is wrong with those that could not be used.

    scale: of files of floats, as for `audio.read`.

    Raises:
        EmoshareError: windows or step are no such, or leave gaps, or all frames together do not fit the memory.
    """
    check_windows(embedder.encoder.window.seconds if windows is None else windows, step)
    name = embedder.encoder.config.backbone.name
    reading = Reading(name, len(files))
    tables: list[Embeddings] = []
    embed = partial(embedder.recordings, windows=windows, step=step)
    for table in reading.tables([str(file) for file in files], embed, scale):
        tables.append(table)
        if embedder.pooling == "frames":
            check_memory(2 * sum(table.values.nbytes for table in tables))
    for line in reading.warnings:
        log.warning(line)
    return join([table for table in tables if len(table)]), reading.failed


def batches(store: TensorStore | JoinedStore) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Rows (B,), frames (B, T, D) and frames that count (B,) of all clips of a store, in order."""
    for start in range(0, len(store.lengths), BATCH):
        rows = np.arange(start, min(start + BATCH, len(store.lengths)))
        yield rows, *store.gather(rows)


def check_mixed(encoder: Encoder) -> Encoder:
    """The encoder itself. EmoshareError where its frames are all hidden states side by side, and nobody mixes them."""
    if encoder.config.backbone.layer == "weighted" and not isinstance(encoder, Part):
        raise EmoshareError("backbone.layer=weighted: a learned sum needs a trained run; name a layer, as last or 12")
    return encoder


def check_path(path: Path) -> None:
    """Raise EmoshareError unless embeddings can be written to the path."""
    if path.suffix not in SUFFIXES:
        raise EmoshareError(f"{path}: embeddings are written as {', '.join(SUFFIXES[:2])} or {SUFFIXES[2]}")
    if path.suffix == ".parquet":
        from emoshare.inference.shares import check_suffix

        check_suffix(path)


def check_memory(size: int) -> None:
    """Raise EmoshareError where this number of bytes would take more than half of the memory that is free."""
    free = psutil.virtual_memory().available
    if size > free / 2:
        raise EmoshareError(
            f"--pooling frames: {size / 1e9:.3g} GB of frames, and {free / 1e9:.3g} GB of memory are free; embed fewer "
            "recordings at once, or pool them"
        )


def join(tables: Sequence[Embeddings]) -> Embeddings:
    """Several tables below one another."""
    width = tables[0].values.shape[1] if tables else 0
    return Embeddings(
        tuple(file for table in tables for file in table.files),
        np.concatenate([np.zeros(0), *(table.start for table in tables)]),
        np.concatenate([np.zeros(0), *(table.end for table in tables)]),
        np.concatenate([np.zeros((0, width), np.float32), *(table.values for table in tables)]),
    )
