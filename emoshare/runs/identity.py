"""A run's identity: the part of its config, corpus and checkpoint that affects results. Its hash names the run folder.

- The corpus counts by its fingerprint, wherever it lies and whatever it is called.
- The checkpoint counts by its hub name and revision, a local folder by the fingerprint of its files.
- Of the config, a key counts where it differs from its default in core/config.py, the run reads it (`Key.only`) and it
  is not declared to change no number (`Key.neutral`). So a key that is added later, and keeps its default, leaves the
  hashes of earlier runs as they are; and where seed, padding or window can change nothing (`_canonical_values`), runs
  that differ in them are one run.

`backbone.cache` counts: the backbone in the loop runs in the trainer's precision and its frames are never rounded, so
that its numbers differ from those of stored frames in their last digits. Devices, threads and batch sizes of extraction
do not.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import RATE, Config, DataConfig
from emoshare.core.hashing import digest
from emoshare.core.parts import parts_of
from emoshare.core.schema import declared_keys, keys_of, value_at
from emoshare.core.variants import variants
from emoshare.data import corpus
from emoshare.data.corpus import KnownCorpus
from emoshare.data.window import sample_count
from emoshare.metrics.outside import allow_named, source_hash
from emoshare.metrics.registry import selections

VERSION = 2  # raise it when a default in core/config.py changes, or the code gives other numbers for the same identity
WHOLE = "whole"  # the value of window.seconds in the identity where the window holds every clip, without padding


def identify(
    config: Config, corpus: str, checkpoint: dict[str, Any], longest: int | None = None,
    code: Mapping[str, str] | None = None, groups: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The run's identity, JSON-able: everything that its numbers depend on.

    Args:
        config: the run's; `head.name` names its system.
        corpus: the corpus's fingerprint.
        checkpoint: as `BackboneOptions.sources` gives it.
        longest: samples of the corpus's longest clip, where they are known.
        code: what the config names of the user's own code and numbers depend on → a hash of its source.
        groups: a hash of the column that `balance` names; None where it names none.
    """
    counted = _counted_keys(config, lambda key: value_at(config, key))
    for key, value in _canonical_values(config, longest).items():
        counted.pop(key, None)
        counted |= {} if value is None else {key: value}
    if parts := parts_of(config.backbone):
        counted["backbone.parts"] = [_counted_keys_of_part(config, part) for part in parts]
    counted |= {key: [value, code[value]] for key, value in selections(config).items() if code and value in code}
    counted |= {"balance": [config.balance, groups]} if groups else {}
    return {"version": VERSION, "corpus": corpus, "checkpoint": checkpoint, "config": counted}


def _counted_keys(section: Any, at: Callable[[str], Any], prefix: str = "") -> dict[str, Any]:
    """The keys of a section that count, with their values. at: dotted key of the config → its value."""
    counted = {}
    for name, declared in (keys_of(section) if isinstance(section, Config) else declared_keys(type(section))).items():
        key, value = f"{prefix}{name}", value_at(section, name)
        if value != declared.default and not declared.key.neutral and declared.key.blocking_key(at) is None:
            counted[key] = _number(value)
    return counted


def _counted_keys_of_part(config: Config, part: BackboneOptions) -> dict[str, Any]:
    """The keys that count of a backbone that is joined with others."""

    def at(key: str) -> Any:
        section, _, name = key.partition(".")
        return getattr(part, name) if section == "backbone" else value_at(config, key)

    return _counted_keys(part, at, "backbone.")


def is_neutral(key: str) -> bool:
    """Whether a key changes no number of any run; of a dictionary or of options from outside any key below it."""
    told = _neutral()
    while key and key not in told:
        key = key.rpartition(".")[0]
    return told.get(key, False)


@functools.cache
def _neutral() -> dict[str, bool]:
    """Section or key → whether it is declared to be neutral."""
    sections = {item.name: item.metadata.get("neutral", False) for item in dataclasses.fields(Config)}
    return sections | {name: bool(declared.key.neutral) for name, declared in declared_keys(Config).items()}


def is_within_cell(key: str) -> bool:
    """Whether the runs of a cell differ in a key: the seed, or the fold that is devel."""
    declared = declared_keys(Config).get(key)
    return declared is not None and declared.key.within_cell


def seed_of(config: Config) -> int | None:
    """The run's seed; None where no number depends on it.

    An SVR's solution is unique, and its variants of clips are the same in every run; a random encoder is the seed's.
    """
    encoders = [config.backbone, *parts_of(config.backbone)]
    return config.seed if config.head.seeded or any(encoder.seeded for encoder in encoders) else None


def sees_whole_clips(config: Config, longest: int | None) -> bool:
    """Whether the window holds every clip of the corpus, and nothing but the clip: then its length changes nothing.

    longest: samples of the longest clip; None where they are not known.
    """
    unpadded = all(part.own_samples for part in parts_of(config.backbone) or [config.backbone])
    return (unpadded or config.window.pad == "none") and not config.in_loop and _holds_all(config, longest)


def _holds_all(config: Config, longest: int | None) -> bool:
    """Whether no clip is longer than the window, nor any of its variants (at most one sample is rounded).

    Frames of a file are those of whole clips, whatever the window is.
    """
    if all(part.from_file for part in parts_of(config.backbone) or [config.backbone]):
        return True
    slowest = min([1.0, *(variant.value for variant in variants(config.augment) if variant.kind == "speed")])
    return longest is not None and round(config.window.seconds * RATE) >= longest / slowest + (slowest < 1)


def _canonical_values(config: Config, longest: int | None) -> dict[str, Any]:
    """Keys that the run reads without a difference to it → their value in the identity; None: it has none."""
    kinds = parts_of(config.backbone) or [config.backbone]
    whole = all(part.whole_clips for part in kinds)
    values: dict[str, Any] = {}
    if seed_of(config) is None:
        values["seed"] = None
    if config.unstorable:
        values["backbone.cache"] = None
    values |= config.backbone.canonical_values()
    if not any(part.normalizes for part in kinds):
        values["window.normalize"] = None
    if whole and not config.in_loop:
        values["window.pad"] = None
    if sees_whole_clips(config, longest):
        values["window.seconds"] = WHOLE
    if not config.in_loop and _holds_all(config, longest) and (whole or config.window.pad == "zeros"):
        values["window.crop"] = None
    return values | config.head.canonical_values(config.backbone.vector, config.backbone.voiced)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"window": {"seconds": 3}}` → `{"window.seconds": 3}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def indifferent_keys(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key → its values, in their order, where configs of one run differ, but for those that change no run's numbers."""
    flat = [flatten(config) for config in configs]
    values: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for config in flat for key in config if not is_neutral(key)):
        values[key] = []
        for config in flat:
            values[key] += [config[key]] if key in config and config[key] not in values[key] else []
    return {key: several for key, several in values.items() if len(several) > 1}


def without_seed(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity that the runs of a cell share: they differ in the seed alone, or in the fold that is devel."""
    return identity | {"config": {key: value for key, value in identity["config"].items() if not is_within_cell(key)}}


def short_hash(identity: dict[str, Any]) -> str:
    """The 8 hex characters at the end of the name of a run's folder."""
    return digest(identity, 8)


def sources_of(config: Config, known: KnownCorpus) -> dict[str, Any]:
    """The arguments of `identify` beside the config: `corpus`, `longest`, `checkpoint`, where asked `groups`, `code`.

    config: of the user's own command. known: its corpus.

    Raises:
        EmoshareError: a local checkpoint is not at hand and was never read before.
    """
    checkpoint = config.backbone.sources(Path(config.paths.cache))
    sources = {"corpus": known.fingerprint, "longest": sample_count(known.longest), "checkpoint": checkpoint}
    if config.head.network and config.sampler == "balanced" and config.balance != "targets":
        groups = (known.read or corpus.load(config.data, Path(config.paths.cache))).groups  # not in the fingerprint
        sources["groups"] = digest(groups[config.balance].tolist())
    functions = [name for name in selections(config).values() if "." in name]
    allow_named(functions)
    return sources | ({"code": {name: source_hash(name) for name in functions}} if functions else {})


def _number(value: Any) -> Any:
    """3.0 as 3, so that both are one value, as they are to the config."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


_KNOWN: dict[tuple[Any, ...], KnownCorpus] = {}  # corpora of this process: to look at 50,000 files takes a second


def known_corpus_of(config: DataConfig, cache: Path) -> KnownCorpus:
    """A corpus by its fingerprint, computed anew where a table or the folder of clips has changed.

    Quick after a process's first call.

    Raises:
        EmoshareError: the corpus is not at hand and was never read before, or has mistakes.
    """
    names = (config.table, config.train, config.devel, config.test, config.unmasked, config.wav, config.metadata)
    state = tuple(_stamp(Path(config.root).expanduser() / name) for name in names if name)
    key = (repr(config), str(cache.absolute()), state)
    if key in _KNOWN:
        return _KNOWN[key]
    known = corpus.known_corpus(config, cache)
    _KNOWN[key] = known._replace(read=None)
    return known
