"""A run as its config comes to on this machine. Whatever is done with a run takes this object and asks it.

Each part is worked out at its first use, and once: a sweep's process asks for folders alone, and needs no PyTorch.
"""

from __future__ import annotations

import copy
import os
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
from emoshare.data.corpus import Corpus, KnownCorpus, load
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
    def known(self) -> KnownCorpus:
        """The corpus by its fingerprint. EmoshareError where it is not at hand and was never read before."""
        return known_corpus_of(self.config.data, self.cache)

    @cached_property
    def sources(self) -> dict[str, Any]:
        """What the identity depends on beside the config. EmoshareError as `sources_of`."""
        return sources_of(self.config, self.known)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that its numbers depend on, JSON-able."""
        return identify(self.config, **self.sources)

    @cached_property
    def run(self) -> Run:
        """Its folder; nothing is created. EmoshareError for a name that is no file name."""
        config = self.config
        for key, name in (("sweep.name", config.sweep.name), ("backbone.name", config.backbone.name)):
            if name != os.path.basename(name) or name in ("", ".", ".."):
                raise EmoshareError(f"{key}={name}: it names a folder, and must be one without / or ..")
        whole = sees_whole_clips(config, self.sources["longest"])
        parts = [config.backbone.name, *([config.head.extension] if config.head.extension else [])]
        parts.append(WHOLE if whole else f"{config.window.seconds:g}s")
        parts += [f"{key}{n}" for key, n in (("seed", self.seed), ("fold", config.data.fold)) if n is not None]
        name = "-".join([*parts, short_hash(self.identity)])
        return Run(Path(config.paths.outputs) / config.sweep.name / name)

    @cached_property
    def corpus(self) -> Corpus:
        """Its corpus, read and checked. EmoshareError where it is another by now than the identity says."""
        corpus = self.known.read or load(self.config.data, self.cache)
        if corpus.fingerprint != self.known.fingerprint:
            raise EmoshareError(f"{corpus.root}: the corpus has changed while the command ran; run it again")
        return corpus

    @cached_property
    def device(self) -> torch.device:
        """What it computes on. EmoshareError where there is no such device here."""
        from emoshare.core.hardware import choose_device

        return choose_device(self.config.trainer)

    @cached_property
    def precision(self) -> str:
        """Lightning's, of training. EmoshareError where the device has it not."""
        from emoshare.core.hardware import choose_precision

        return choose_precision(self.config.trainer, self.device)

    @property
    def seed(self) -> int | None:
        """None where no number depends on it."""
        return seed_of(self.config)

    @property
    def cache(self) -> Path:
        return Path(self.config.paths.cache)

    @property
    def finished(self) -> bool:
        """Whether it is done, and not to be trained again."""
        return self.run.finished() and not self.config.restart

    def on_gpu(self, number: int) -> ResolvedRun:
        """The same on a GPU of a number."""
        trainer = self.config.trainer
        if number == trainer.device:
            return self
        return ResolvedRun(replace(self.config, trainer=replace(trainer, device=number)))

    def changed(self, config: Config, device: torch.device) -> ResolvedRun:
        """The same with keys of the config changed that change no number, on a device."""
        found = copy.copy(self)
        found.config, found.device = config, device
        return found

    def check_folder(self) -> None:
        """Raise EmoshareError where what lies in its folder is another run."""
        found = self.run.identity()
        if found is not None and found != self.identity:
            keys = sorted(key for key in self.identity if found[key] != self.identity[key])
            raise EmoshareError(f"{self.run.folder}: was made from another {' and '.join(keys)}; {REMEDY}")

    def start(self, place: Path | None = None) -> None:
        """Create the folder with the config; remove the record of an earlier failure.

        place: where the folder is going to lie, if that is not where it is made.
        """
        run = self.run
        write_text(run.config_path, yaml.safe_dump(values_of(self.config), sort_keys=False))
        write_sealed(run.sources_path, self.sources | {"started": here(place or run.folder)})
        run.failure_path.unlink(missing_ok=True)
        sweep_tree(run.folder, alone=True)  # of a process that was killed while it wrote: the caller holds the lock

    @contextmanager
    def building(self) -> Iterator[ResolvedRun]:
        """The run where it is trained: in its own folder, or for a restart in one beside it, which takes its place.

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
        if not self.run.finished():
            write_text(self.run.config_path, yaml.safe_dump(values_of(self.config), sort_keys=False))
        write_json(self.run.failure_path, asdict(failure))
