"""Kinds: sections of the config that hold one of several classes, ours by name, the user's by `_target_`.

Such a section holds an object: the options of the chosen class, with the facts that the program needs. Ours are the
classes `Options` in the modules of a room (`ROOMS`), each called as its module is. The module `outside` of the room has
the class for what the user brings.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from emoshare.core import outside
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import MISSING, Declared, Key, declared_keys, key, value_text
from emoshare.core.text import near

ROOMS = {  # section → the package with its classes
    "backbone": "emoshare.backbones.kinds",
    "head": "emoshare.systems.kinds",
    "loss": "emoshare.models.losses",
    "optimizer": "emoshare.models.optimizers",
    "logger": "emoshare.runs.trackers",
}
DEFAULTS = {  # section → what is taken where none is named
    "backbone": "encoder", "head": "mlp", "loss": "mix", "optimizer": "adamw", "logger": "wandb",
}  # fmt: skip
SELECTORS = {section: "type" if section == "backbone" else "name" for section in ROOMS}  # the key that names the one
TARGET, SOURCE = "_target_", "_source_"


@dataclass
class Options:
    """The options of one of a kind."""

    name: str = key("", "which one of the kind; of a class from outside what tables call it", file_name=True)

    selectable: ClassVar[bool] = True  # by its name in a config

    @property
    def label(self) -> str:
        """The name of the object in tables."""
        return self.name

    def problems(self, config: Any) -> Iterator[str]:
        """The mistakes in its options in a config, a line each."""
        yield from ()

    def check(self, config: Any) -> None:
        """Raise EmoshareError where it cannot be used on this machine; before anything is computed."""

    def check_packages(self) -> None:
        """Raise NotAtHandError where a package that it needs to the end is not installed; takes no time."""

    def settle(self, prefix: str) -> None:
        """Work out what its options leave open, in a command of the user's own.

        Raises:
            EmoshareError: an option that it does not take, or lacks; a line for each, which begins with the key.
        """

    def own_keys(self) -> dict[str, Declared]:
        """Its keys, by the names that they have in its section."""
        return declared_keys(type(self))

    def value_of(self, name: str) -> Any:
        """The value of a key, or of an attribute of the class with that name."""
        return getattr(self, name)


NO_DEFAULT = object()  # of an option of a class from outside: it always counts


@dataclass
class Outside:
    """The facts about a class or function from outside; a second base of an `Options` class."""

    _target_: str = key("", "dotted name of the class or function")
    _source_: str | None = key(None, "hash of the module's source when it was used; null: of a library's")
    options: dict[str, Any] = field(default_factory=dict)  # its own
    allowed: bool = field(default=False, compare=False, repr=False)  # whether its module may be imported

    given: ClassVar[int] = 0  # positional arguments that emoshare gives it

    def load_target(self) -> Any:
        """The class or function.

        Raises:
            EmoshareError: it may not be imported, or there is none of that name.
        """
        if not self.allowed:
            raise EmoshareError(outside.refusal(self._target_))
        return outside.locate(self._target_)

    def own_keys(self) -> dict[str, Declared]:
        """The keys of its section, and its own options."""
        keys = {name: key for name, key in declared_keys(type(self)).items() if name not in ("options", "allowed")}
        about = Key(f"of {self._target_}")
        return keys | {name: Declared(name, Any, NO_DEFAULT, about) for name in self.options}

    def value_of(self, name: str) -> Any:
        return self.options[name] if name in self.options else getattr(self, name)

    def settle(self, prefix: str) -> None:
        """Import it, fill in the defaults of its options and the hash of its source.

        Raises:
            EmoshareError: there is none, or it has no such options; a line for each.
        """
        target = self.load_target()
        self.options = outside.complete(target, self.options, self.given, prefix, self._target_)
        self._source_ = None if outside.is_library(target) else outside.source_hash(target)


def is_outside(options: Any) -> bool:
    """Whether the options are those of a class or function from outside."""
    return isinstance(options, Outside)


def classes(section: str) -> dict[str, type[Options]]:
    """Name → class of all of ours, in the order of their names."""
    return _classes(section)


@functools.cache
def _classes(section: str) -> dict[str, type[Options]]:
    package = importlib.import_module(ROOMS[section])
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {
        name: module.Options for name, module in modules.items() if name != "outside" and hasattr(module, "Options")
    }


def class_of(section: str, values: Mapping[str, Any]) -> type[Options]:
    """The class whose options some values are. EmoshareError where they name none that there is."""
    if values.get(TARGET):
        return importlib.import_module(f"{ROOMS[section]}.outside").Options
    selector, known = SELECTORS[section], classes(section)
    name = values.get(selector, DEFAULTS[section])
    if str(name) in known:
        return known[str(name)]
    further = {word: cls for cls in known.values() for word in getattr(cls, "types", ())}  # as a model_type
    if not isinstance(name, str) or not name.strip() or name == MISSING or name in further:
        return further.get(str(name), known[DEFAULTS[section]])
    names = sorted([*(n for n, cls in known.items() if cls.selectable and not getattr(cls, "types", ())), *further])
    raise EmoshareError(
        f"{section}.{selector}={value_text(name)}: must be one of {', '.join(names)}{near(name, names)}"
    )


def label_of(section: str, name: str) -> str:
    """The name in tables for a class of a name; one from outside keeps its own."""
    return str(getattr(classes(section).get(name), "label", name))


def keys_of_all(section: str, facts: Mapping[str, Any], prefix: str) -> Iterator[Declared]:
    """The keys of all classes that a section may hold; of those of one name the first, with all of their choices.

    The class that is taken where none is named comes first. facts: the metadata of the section's field.
    """
    merged: dict[str, Declared] = {}
    owners: dict[str, list[str]] = {}
    several = sorted((owner for owner, cls in classes(section).items() if cls.selectable), key=DEFAULTS[section].__ne__)
    for owner in several:
        for declared in declared_keys(classes(section)[owner]).values():
            name = f"{prefix}.{declared.name}"
            first = merged.setdefault(name, dataclasses.replace(declared, name=name))
            choices = tuple(dict.fromkeys((*first.key.choices, *declared.key.choices)))
            merged[name] = dataclasses.replace(first, key=dataclasses.replace(first.key, choices=choices))
            owners.setdefault(name, []).append(owner)
    for name, declared in merged.items():
        selector = f"{prefix}.{SELECTORS[section]}"
        among = {} if owners[name] == several else {selector: values_for(section, owners[name])}
        choices = values_for(section, several) if name == selector else declared.key.choices
        key = dataclasses.replace(declared.key, only={**among, **declared.key.only}, choices=choices)
        yield dataclasses.replace(declared, key=key.within(facts))


def values_for(section: str, names: Iterable[str]) -> tuple[str, ...]:
    """The values of a section's selector that stand for some of its classes."""
    words = ((name, getattr(classes(section)[name], "types", ())) for name in names)
    return tuple(value for name, types in words for value in types or (name,))


def kind(section: str, **facts: Any) -> Any:
    """A dataclass field that holds the object of a kind. facts: those about all of its keys, as for `Key.within`."""
    keys = functools.partial(keys_of_all, section, facts)
    metadata = {"kind": section, "keys": keys, "default": DEFAULTS[section], **facts}
    return field(default_factory=lambda: class_of(section, {})(), metadata=metadata)


def sibling_keys(section: str, name: str) -> dict[str, Declared]:
    """Our classes that have a key of a name in their section: name of the class → the key."""
    siblings = {}
    for kind_name, cls in classes(section).items():
        if cls.selectable and name in declared_keys(cls):
            siblings[kind_name] = declared_keys(cls)[name]
    return siblings


def values_of(section: Any) -> dict[str, Any]:
    """A config, or a section of it, as nested plain values, as YAML and JSON hold them."""
    values = {}
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            value = values_of(value)
        elif isinstance(value, list | dict):
            value = type(value)(value)
        values[item.name] = value
    if isinstance(section, Outside):
        del values["allowed"]
        values |= values.pop("options")
    return values


@dataclass
class HeadOptions(Options):
    """The options of a head, which learns to turn the frames of a clip into shares."""

    name: str = key(DEFAULTS["head"], "the head, which learns from frames", file_name=True)

    network: ClassVar[bool] = False  # trained in epochs by gradient descent; else fitted at once on stored frames
    extension: ClassVar[str] = ""  # of the names of runs and rows: nothing for the paper's head

    @property
    def system(self) -> str:
        """The name of a run with it in results and tables."""
        return self.name

    @property
    def seeded(self) -> bool:
        """Whether its numbers depend on the seed."""
        return self.network

    @property
    def bounded(self) -> bool:
        """Whether its shares always lie between 0 and 1."""
        return False

    @property
    def least_batch(self) -> int:
        """Clips that a batch of its training must have."""
        return 1

    @property
    def mixes_pooled(self) -> bool:
        """Whether there is one vector per clip that `train.mixup` can mix."""
        return False

    @property
    def words(self) -> str:
        """Its description in a sentence of the model card."""
        return self.label

    def canonical_values(self, vector: bool, voiced: bool) -> dict[str, Any]:
        """Keys whose values make no difference here → their value in the identity; None: it has none.

        vector: the backbone gives a vector per clip. voiced: one of its features says how voiced a frame is.
        """
        return {}

    def make(self, width: int, states: int, targets: int) -> Any:
        """A network with fresh weights: frames (B, T, width), counts (B,) → shares (B, targets).

        width: numbers per frame, those of all `states` hidden states.
        """
        raise NotImplementedError

    def fit_predict(self, task: Any) -> Any:
        """Learn from a `training.system.Task`, and return an `Outcome`."""
        raise NotImplementedError

    def load(self, run: Any) -> Any:
        """The `systems.learned.LearnedHead` of a `SavedRun`, on the CPU."""
        raise NotImplementedError
