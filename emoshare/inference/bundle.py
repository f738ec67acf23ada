"""The folder of a trained model: a run's folder, an exported folder, or an exported folder on the hub.

An exported folder holds `config.json` (format, the run's config and results, devel errors), the head
(`head.safetensors` or `svr.safetensors`), where need be the backbone (`backbone/`), and for a fusion a folder of the
same kind per member (`members/0`, `members/1`, …).

Nothing in such a folder is run: JSON, YAML (safe), safetensors, and checkpoints of PyTorch with `weights_only`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from emoshare.backbones import audeep
from emoshare.core.config import Config, PathsConfig
from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import read_json
from emoshare.core.hashing import check_file, check_seal
from emoshare.core.kinds import Outside, values_of
from emoshare.core.outside import refusal, source_hash
from emoshare.core.ranges import width
from emoshare.core.records import to_json
from emoshare.core.typed import fill
from emoshare.core.validate import find_mistakes
from emoshare.inference.safety import check_errors, check_folder, check_place, check_results
from emoshare.runs.folder import Run
from emoshare.runs.places import cache_of, locate_backbone, member_folder
from emoshare.runs.predictions import verified_shares
from emoshare.runs.results import REMEDY, Results
from emoshare.systems.learned import LearnedHead
from emoshare.training.weights import load_backbone_weights

log = logging.getLogger("emoshare")
FORMAT = 1  # of an exported folder's config.json
CONFIG, BACKBONE, MEMBERS = "config.json", "backbone", "members"
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FETCHED = ("*.json", "*.safetensors", "*.skops", "*.md", "*.txt")  # of a folder on the hub: nothing that could be run


@dataclass(frozen=True)
class Bundle:
    """A trained model on disk.

    Attributes:
        folder: where it lies.
        config: what it was trained with.
        results: its scores, and what they come from.
        exported: whether it is an exported folder and not a run's.
    """

    folder: Path
    config: Config
    results: Results
    exported: bool

    @cached_property
    def devel_error(self) -> dict[str, float]:
        """Mean absolute error on devel of each target, in the unit of the labels; empty where these are not there."""
        if self.exported:
            return read_json(self.folder / CONFIG, "export the run again").get("devel_error", {})
        return devel_error(self.folder, self.results)

    def head(self) -> LearnedHead:
        """The trained head, on the CPU. EmoshareError where it cannot be read, or is a fusion's."""
        if self.results.is_fusion:
            raise EmoshareError(f"{self.folder}: a fusion has no head of its own; name one of its members")
        return self.config.head.load(self)

    def backbone_weights(self) -> dict[str, Tensor]:
        """The weights of a backbone that the run trained; empty for a frozen or an exported one.

        Raises:
            EmoshareError: they cannot be read.
        """
        return (
            {}
            if self.config.backbone.frozen or self.exported
            else load_backbone_weights(Run(self.folder), self.config.train, self.results)
        )

    def check(self, name: str) -> None:
        """Raise EmoshareError where a file of the folder is not what was written."""
        remedy = "export the run again" if self.exported else REMEDY
        check_file(self.folder / name, self.results.files.get(name), remedy)

    def place_config(self, cache: Path) -> Config:
        """The config with a backbone that can be found from here; cache: where auDeep's autoencoders lie."""
        backbone = self.config.backbone
        if self.exported and backbone.place == BACKBONE:
            backbone = backbone.with_place(str(self.folder / BACKBONE))
        elif backbone.trained_first:
            backbone = backbone.with_place(str(audeep.folder_of(self.results.backbone.rest["training"], cache)))
        elif not self.exported:
            backbone = locate_backbone(self.folder, backbone, Run(self.folder).sources())
        return replace(self.config, backbone=backbone)

    @property
    def cache(self) -> Path:
        """The cache that the run was trained with; of an exported folder `cache`."""
        if self.exported:
            return Path(self.config.paths.cache)
        return cache_of(self.folder, self.config.paths.cache, Run(self.folder).sources().get("started", {}))

    def members(self) -> list[tuple[Bundle, float]]:
        """The members of a fusion, each with its weight.

        Raises:
            EmoshareError: a member is no longer where it was.
        """
        opened, problems = [], []
        for number, entry in enumerate(self.results.members):
            at = self.folder / MEMBERS / str(number) if self.exported else member_folder(self.folder, entry)
            try:
                if not at.is_dir():
                    raise EmoshareError(
                        f"{self.folder}: its member {entry.run} is gone; bring it back beside it, or to {at}"
                    )
                member = open_bundle(at)
                if member.results.targets != self.results.targets:
                    raise EmoshareError(
                        f"{at}: predicts other targets than the fusion {self.folder}, whose member it is"
                    )
                opened.append((member, entry.weight))
            except EmoshareError as error:
                problems.append(str(error))
        if problems:
            raise EmoshareError("\n".join(problems))
        return opened

    def leaves(self) -> list[tuple[Bundle, float]]:
        """Itself, or for a fusion all that it is made of in the end, each with its weight; the weights add up to 1."""
        if not self.results.is_fusion:
            return [(self, 1.0)]
        members = self.members()
        total = sum(weight for _, weight in members)
        return [(leaf, weight * share / total) for member, weight in members for leaf, share in member.leaves()]

    @cached_property
    def bounded(self) -> bool:
        """Whether its shares always lie in the range of the labels: not those of an SVR, or of a linear output."""
        return all(leaf.config.head.bounded for leaf, _ in self.leaves()) and all(
            weight >= 0 for _, weight in self.leaves()
        )


def open_bundle(source: str | Path, revision: str | None = None) -> Bundle:
    """The model in a folder, or of a name on the hub.

    Raises:
        EmoshareError: there is none, a file of it cannot be read, or it names code that is not allowed.
    """
    folder = locate(source, revision)
    if (folder / CONFIG).is_file():
        return open_exported(folder)
    run = Run(folder)
    results = run.results()
    if results is None:
        raise EmoshareError(
            f"{source}: no finished run here; name a folder like outputs/<sweep>/<run>, one that was exported with "
            "--to hub, or the name of one on the hub"
        )
    config = fill(Config, results.config, str(run.results_path))
    check_results(run.results_path, config, results)
    check_allowed(folder, config)
    return Bundle(folder, config, results, exported=False)


def check_allowed(folder: Path, config: Config) -> None:
    """Raise EmoshareError where a head or a backbone is code from outside that is not allowed; warn of edited code."""
    for section in ("head", "backbone"):
        options: Any = getattr(config, section)
        if not isinstance(options, Outside):
            continue
        if not options.allowed:
            raise EmoshareError(f"{folder}: {refusal(options._target_)}")
        source = options.load_target()
        if options._source_ and source_hash(source) != options._source_:
            log.warning("%s: the source of %s has changed since the run was trained", folder, options._target_)


def open_exported(folder: Path) -> Bundle:
    """An exported folder. Its config names no folder of this machine but those in itself."""
    path, remedy = folder / CONFIG, "export the run again"
    check_folder(folder, CONFIG)
    content = read_json(path, remedy)
    if content.get("format") != FORMAT or not isinstance(content.get("config"), dict):
        raise EmoshareError(f"{path}: not a model that emoshare exported, or of another format; {remedy}")
    config = replace(fill(Config, content["config"], str(path)), paths=PathsConfig())
    results = Results.of(content.get("results"), path, remedy, "results.")
    check_place(path, config)
    check_results(path, config, results)
    check_errors(path, content.get("devel_error"))
    check_allowed(folder, config)
    mistakes = find_mistakes(config) if not results.is_fusion else []  # whose config names no head to check
    if mistakes:
        raise EmoshareError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    check_seal(content, path, remedy)
    return Bundle(folder, config, results, exported=True)


def locate(source: str | Path, revision: str | None) -> Path:
    """The folder itself, or that of the hub's cache, fetched first if need be."""
    folder = Path(source).expanduser()
    if folder.is_dir() or not HUB_NAME.fullmatch(str(source)) or folder.parent.is_dir():
        if revision is not None and folder.is_dir():
            raise EmoshareError(f"--revision {revision}: is of a model on the hub, and {source} a folder; leave it out")
        return folder
    from huggingface_hub import snapshot_download

    patterns = [*FETCHED, *(f"**/{pattern}" for pattern in FETCHED)]
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=patterns, etag_timeout=10))
    except Exception as error:  # the hub client's own, its HTTP library's and the system's
        raise EmoshareError(
            f"{source}: no such folder, not in the hub cache, and cannot be fetched ({brief(error)}); name a run's "
            f"folder, or run `hf download {source}` where there is a network"
        ) from error


def devel_error(folder: Path, results: Results) -> dict[str, float]:
    """Mean absolute error on devel of each target, from the tables of a run, in the unit of the corpus's labels.

    Empty where it has no labels.
    """
    tables = [f"{part}/devel.csv" for part in ("predictions", "reference")]
    if not all((folder / table).is_file() for table in tables):
        return {}
    predicted, true = (verified_shares(folder, table, results)[1] for table in tables)
    return dict(zip(results.targets, (width(results.range) * np.abs(predicted - true).mean(0)).tolist(), strict=True))


def describe(bundle: Bundle, config: Config) -> dict[str, Any]:
    """The content of an exported folder's config.json; config: with the backbone's place in that folder."""
    return {
        "format": FORMAT,
        "config": values_of(config),
        "results": to_json(bundle.results),
        "devel_error": bundle.devel_error,
    }
