"""Frames as a store is given them, without a backbone: segments of made-up clips, and requests for them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.store.frames import FrameStore, Request, store_folder
from emoshare.store.locks import alone
from emoshare.store.recipe import Recipe, sample_key
from emoshare.store.segments import ENTRY, Writer

WIDTH = 6
RECIPE = Recipe(
    backbone={"name": "fake", "dim": WIDTH, "layers": 2, "layer": "last"},
    precision="float16",
    compute="float32",
)


def clips(count: int = 23, equal: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(9 if equal else rng.integers(1, 12), WIDTH)).astype(np.float16) for _ in range(count)]


def keys(count: int, first: int = 0) -> list[bytes]:
    return [sample_key(b"%d" % number, 0, 400, 400) for number in range(first, first + count)]


def begin(folder: Path, recipe: Recipe, data: list[np.ndarray], names: list[bytes]) -> Writer:
    entries = np.array([(name, len(clip), 16_000) for name, clip in zip(names, data, strict=True)], ENTRY)
    with alone(folder):
        return Writer(folder, recipe, entries)


def fill(folder: Path, recipe: Recipe, data: list[np.ndarray], first: int = 0, chunk: int = 4) -> Request:
    """Store clips as an extraction does, in segments of `chunk` clips; the request for all of them."""
    names = keys(len(data), first)
    request = Request("made up", names)
    with_lock = request.hold(folder, recipe)
    for start in range(0, len(data), chunk):
        writer = begin(folder, recipe, data[start : start + chunk], names[start : start + chunk])
        for clip in data[start : start + chunk]:
            writer.add(clip)
        writer.commit(seconds=2.0)
    if with_lock is not None:
        with_lock.close()
    return request


def build(cache: Path, data: list[np.ndarray], first: int = 0, **changes: Any) -> tuple[Path, Recipe, Request]:
    """A store of clips: the arguments of `FrameStore`."""
    recipe = replace(RECIPE, **changes)
    folder = store_folder(cache, recipe)
    return folder, recipe, fill(folder, recipe, data, first)


def assert_holds(store: FrameStore, data: list[np.ndarray]) -> None:
    for row, expected in enumerate(data):
        batch, lengths = store.arrays([row])
        assert lengths.tolist() == [len(expected)]
        np.testing.assert_array_equal(batch[0], expected)


def make_stores(cache: Path, count: int = 4) -> list[tuple[Path, Recipe, Request]]:
    """Stores of a megabyte, the first used longest ago."""
    data = [np.ones((250_000 // WIDTH, WIDTH), np.float16) for _ in range(2)]
    made = [build(cache, data, compute=str(i)) for i in range(count)]
    for age, (folder, _, request) in enumerate(made):
        os.utime(folder / "requests" / request.digest, (1000 + age, 1000 + age))
    return made
