"""Lets torchaudio's wheel be imported beside a PyTorch without its CUDA libraries.

torchaudio's Linux wheel links CUDA. On a CPU-only PyTorch `import torchaudio` raises OSError, and so does every
audio model of transformers, which imports torchaudio whenever it is installed. torchaudio itself has a state "built
without the extension", in which everything but `forced_align` works. This import hook watches one module,
`torchaudio._extension`: it runs the real one, and only if that raises puts upstream's own state in its place.

`install()` is called by `import emoshare`, and so is in force in loader processes (they unpickle our classes) and
notebooks. Tested in tests/test_shim.py.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

NAME = "torchaudio._extension"


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader)
        return spec


class Loader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self.real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.real.exec_module(module)
        except (OSError, ImportError, RuntimeError):  # CUDA libraries absent, or of another version
            from torchaudio._internal.module_utils import fail_with_message

            state = module.__dict__
            state["_IS_TORCHAUDIO_EXT_AVAILABLE"] = state["_IS_ALIGN_AVAILABLE"] = False
            state["fail_if_no_align"] = fail_with_message("torchaudio runs here without its compiled extension.")


def install() -> None:
    """Put the hook in force, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
