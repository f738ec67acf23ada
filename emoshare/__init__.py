"""emoshare: learn from speech how much of each emotion a voice carries.

```python
import emoshare

corpus = emoshare.load_corpus("data=demo")                 # read and checked
results = emoshare.train("data=demo", "backbone=logmel")   # one run, as on the command line
several = emoshare.sweep("data=demo", "backbone=logmel,prosody", "seed=0,1")  # as with -m
report = emoshare.report("outputs/default")                # report.page, and report.tables as DataFrames
model = emoshare.load("outputs/default/logmel-5.5s-seed0-…")
model.predict("clip.wav")                                  # a share for each emotion
```

Importing it is quick: what a name needs is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from emoshare.core import torchaudio_shim
from emoshare.core.version import __version__

if TYPE_CHECKING:
    from emoshare.api import check, compose, evaluate, export, fuse, load, load_corpus, report, status, sweep, train
    from emoshare.core.config import Config
    from emoshare.core.errors import EmoshareError
    from emoshare.data.partition import Corpus
    from emoshare.data.window import Window
    from emoshare.inference.model import Model
    from emoshare.inference.shares import Shares
    from emoshare.models.module import EmotionShareModule
    from emoshare.runs.results import Results
    from emoshare.training.datamodule import EmotionShareData


__all__ = [
    "Config", "Corpus", "EmoshareError", "EmotionShareData", "EmotionShareModule", "Model", "Results", "Shares",
    "Window", "__version__", "check", "compose", "evaluate", "export", "fuse", "load", "load_corpus", "report",
    "status", "sweep", "train",
]  # fmt: skip
_HOMES = {
    "Config": "core.config", "Corpus": "data.corpus", "EmoshareError": "core.errors",
    "EmotionShareData": "training.datamodule", "EmotionShareModule": "models.module", "Model": "inference.model",
    "Results": "runs.results", "Shares": "inference.shares", "Window": "data.window",
    **dict.fromkeys(
        ("check", "compose", "evaluate", "export", "fuse", "load", "load_corpus", "report", "status", "sweep", "train"),
        "api",
    ),
}  # fmt: skip

torchaudio_shim.install()


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'emoshare' has no attribute '{name}'")
    return getattr(importlib.import_module(f"emoshare.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
