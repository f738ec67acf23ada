"""Garbage collection around the import of large libraries: their half a million objects all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """For a block that imports PyTorch or Lightning: no garbage collection in it, and later none of what it made.

    Measured: 0.9 s of the 3.5 s that Lightning takes to import, 0.25 s at the end of every run, and 8 MB more memory.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
