"""Python runs this first in processes that tests start (drawing.py): the figures of their runs are dots, too."""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any


class Dots:
    """Finds `run_plots` of this folder in place of the package's."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(Path(__file__).parent)]) if name == "emoshare.runs.run_plots" else None


sys.meta_path.insert(0, Dots)
