"""A run as its config resolves on this machine. Everything that works with a run takes this object.

Each part is computed at its first use, and once: a sweep's process needs folders alone, and no PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import swap, write_json, write_text
from emoshare.core.hashing import write_sealed
from emoshare.core.kinds import values_of
from emoshare.core.leftovers import sweep_tree, temporary_folder
from emoshare.data.corpus import KnownCorpus, load
from emoshare.data.partition import Corpus
from emoshare.runs.folder import Failure, Run
from emoshare.runs.identity import (
    WHOLE,
    identify,
    known_corpus_of,
    seed_of,
    sees_whole_clips,
    short_hash,
    sources_of,
)
from emoshare.runs.places import here
from emoshare.runs.results import REMEDY
from emoshare.runs.subset import take_clips

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class ResolvedRun:
    """A run with all that it depends on.

    Attributes:
        config: checked; its backbone is `config.backbone`.
    """

    config: Config

    @cached_property
    def known_corpus(self) -> KnownCorpus:
        """The corpus by its fingerprint. EmoshareError where it is not at hand and was never read before."""
        return known_corpus_of(self.config.data, self.cache)

    @cached_property
    def sources(self) -> dict[str, Any]:
        """The arguments of the identity beside the config. EmoshareError as `sources_of`."""
        return sources_of(self.config, self.known_corpus)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The run's identity, JSON-able: everything that its numbers depend on."""
        return identify(self.config, **self.sources)

    @cached_property
    def run(self) -> Run:
        """The run's folder, which is not created. EmoshareError for a name that is no file name."""
        config = self.config
        for key, name in (("sweep.name", config.sweep.name), ("backbone.name", config.backbone.name)):
            if "/" in name or name in ("", ".", ".."):
                raise EmoshareError(f"{key}={name}: it names a folder, and must be one without / or ..")
        whole = sees_whole_clips(config, self.sources["longest"])
        parts = [config.backbone.name, *([config.head.extension] if config.head.extension else [])]
        parts.append(WHOLE if whole else f"{config.window.seconds:g}s")
        parts += [f"{key}{n}" for key, n in (("seed", self.seed), ("fold", config.data.fold)) if n is not None]
        name = "-".join([*parts, short_hash(self.identity)])
        return Run(Path(config.paths.outputs) / config.sweep.name / name)

    @cached_property
    def corpus(self) -> Corpus:
        """The run's corpus, read and checked, or the clips of it that `limit` takes.

        EmoshareError where the corpus has changed since the identity was computed, or the clips are too few.
        """
        corpus = self.known_corpus.read or load(self.config.data, self.cache)
        if corpus.fingerprint != self.known_corpus.fingerprint:
            raise EmoshareError(f"{corpus.root}: the corpus has changed while the command ran; run it again")
        return take_clips(corpus, self.config.limit)

    @cached_property
    def device(self) -> torch.device:
        """The device that it computes on. EmoshareError where there is no such device here."""
        from emoshare.core.hardware import choose_device

        return choose_device(self.config.trainer)

    @cached_property
    def precision(self) -> str:
        """Lightning's precision of training. EmoshareError where the device lacks it."""
        from emoshare.core.hardware import choose_precision

        return choose_precision(self.config.trainer, self.device)

    @property
    def seed(self) -> int | None:
        """The run's seed; None where no number depends on it."""
        return seed_of(self.config)

    @property
    def cache(self) -> Path:
        return Path(self.config.paths.cache)

    @property
    def finished(self) -> bool:
        """Whether it is done, and not to be trained again."""
        return self.run.is_finished() and not self.config.restart

    def on_gpu(self, number: int) -> ResolvedRun:
        """The same run on a GPU of a number."""
        trainer = self.config.trainer
        if number == trainer.device:
            return self
        return ResolvedRun(replace(self.config, trainer=replace(trainer, device=number)))

    def with_config(self, config: Config, device: torch.device) -> ResolvedRun:
        """The same run with a config that differs in keys that change no number, on a device."""
        changed = copy.copy(self)
        changed.config, changed.device = config, device
        return changed

    def check_folder(self) -> None:
        """Raise EmoshareError where its folder holds another run."""
        actual = self.run.identity()
        if actual is not None and actual != self.identity:
            keys = sorted(key for key in self.identity if actual[key] != self.identity[key])
            raise EmoshareError(f"{self.run.folder}: was made from another {' and '.join(keys)}; {REMEDY}")

    def start(self, place: Path | None = None) -> None:
        """Create the folder with the config; remove the record of an earlier failure.

        place: the folder's final place, if it is made elsewhere.
        """
        run = self.run
        write_text(run.config_path, yaml.safe_dump(values_of(self.config), sort_keys=False))
        write_sealed(run.sources_path, self.sources | {"started": here(place or run.folder)})
        run.failure_path.unlink(missing_ok=True)
        sweep_tree(run.folder, alone=True)  # of a process that was killed while it wrote: the caller holds the lock

    @contextmanager
    def building(self) -> Iterator[ResolvedRun]:
        """The run in the folder where it is trained: its own, or for a restart one beside it, which takes its place.

        Where the restart fails, the folder stays as it was.
        """
        if not (self.config.restart and self.run.folder.exists()):
            self.start()
            yield self
            return
        with temporary_folder(self.run.folder) as beside:
            new = copy.copy(self)
            new.run = Run(beside / self.run.name)  # of the same name, which loggers show
            new.start(self.run.folder)
            yield new
            swap(new.run.folder, self.run.folder)

    def fail(self, failure: Failure) -> None:
        """Record why it ended without results."""
        if not self.run.is_finished():
            write_text(self.run.config_path, yaml.safe_dump(values_of(self.config), sort_keys=False))
        write_json(self.run.failure_path, asdict(failure))
