"""The parsed command line: flags, overrides, and which of them are of a sweep. Hydra's grammar is its own."""

from __future__ import annotations

import functools
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep

from emoshare.command import messages
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import TARGET
from emoshare.core.schema import declared_keys
from emoshare.core.usual import USUAL
from emoshare.models.losses import mix

RECIPE = (  # sections that choose the frames
    "data", "window", "backbone", "extract", "system", "experiment", "augment", "without",
)  # fmt: skip
NO_RECIPE = ("data.batch_size", "data.workers")  # keys in them that do not
OF_SWEEPS = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.", "sweep.fuse")


def parse(arguments: list[str]) -> Namespace:
    """Parse arguments by Hydra's own parser; flags may come before, between and after the overrides."""
    parser = get_args_parser()
    parser.error = refuse_flags  # type: ignore[method-assign]
    return parser.parse_intermixed_args(arguments)


def refuse_flags(message: str) -> NoReturn:
    """Raise EmoshareError in place of argparse's usage. message: argparse's own."""
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown == message:
        raise EmoshareError(message)
    flag = unknown.split()[0]
    name, _, value = flag.lstrip("-").partition("=")
    key = USUAL.get(name.replace("-", "_"), name if "." in name else "trainer.epochs")
    raise EmoshareError(
        f"{flag}: no such flag; keys are written {key}={value or '3' * key.endswith('epochs') or '…'}; "
        "`emoshare train --help` lists them"
    )


def useless_flags(options: Namespace) -> Iterator[str]:
    """A line for every flag of Hydra's that says nothing here."""
    if options.config_dir and not Path(options.config_dir).is_dir():
        yield f"--config-dir {options.config_dir}: no such folder; name one that holds experiment/, backbone/ …"
    for flag in ("config_name", "config_path", "experimental_rerun"):
        if getattr(options, flag, None):
            yield f"--{flag.replace('_', '-')}: there is one config here; --config-dir adds a folder of your own files"
    for flag in ("resolve", "package"):
        if getattr(options, flag, None):
            yield f"--{flag}: is for --cfg, which prints the config"


@functools.cache
def parse_override(line: str) -> Override:
    return OverridesParser.create().parse_override(line)


def for_hydra(lines: Iterable[str]) -> list[str]:
    """Overrides as Hydra has to be given them, to compose what `compose.py` does."""
    return [name_all_weights(line) for line in lines]


@functools.cache
def name_all_weights(line: str) -> str:
    """An override where weights of losses, as loss={kl: 1, ccc: 0.5}, are all that the loss has: the others are 0.

    Hydra would merge them into the loss that was chosen before, so that ccc keeps its 1.
    """
    override = parse_override(line)
    value = override.value()
    listed = value.list if isinstance(value, ChoiceSweep) else [value]
    if override.key_or_group != "loss" or not any(_are_weights(item) for item in listed):
        return line
    defaults = {name: declared.default for name, declared in declared_keys(mix.Options).items()}
    unnamed = {**defaults, **dict.fromkeys(mix.ALL, 0)}
    full: list[Any] = [{**unnamed, **item} if _are_weights(item) else item for item in listed]
    return f"loss={','.join(Override._get_value_element_as_str(item) for item in full)}"


def _are_weights(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value of `loss` says all weights, also that there are none: {}."""
    return isinstance(value, dict) and TARGET not in value and (not value or not {*value}.isdisjoint(mix.ALL))


def parse_overrides(lines: Iterable[str], mistakes: dict[str, None]) -> list[Override]:
    """The overrides that can be parsed; what is wrong with the others goes to `mistakes`."""
    parsed = []
    for line in lines:
        try:
            override = parse_override(line)
            if not override.key_or_group:
                raise EmoshareError("no key")
            parsed.append(override)
        except Exception:  # antlr's or Hydra's own, whose words need the grammar at hand
            mistakes[messages.bad_override(line)] = None
    return parsed


def find_repetitions(overrides: Iterable[Override]) -> Iterator[str]:
    """A line for each key that is given again with another value: Hydra takes the last. Mappings are merged."""
    given: dict[str, list[tuple[str, Any]]] = {}  # key → what was typed, and its value
    for override in overrides:
        line = override.input_line or ""
        value = None if override.is_delete() else parse_override(name_all_weights(line)).value()
        given.setdefault(override.key_or_group, []).append((line, value))
    for *earlier, (last, value) in given.values():
        if replaced := [line for line, first in earlier if _is_other(first, value)]:
            yield messages.comes_later(replaced, last)


def _is_other(first: Any, last: Any) -> bool:
    """Whether a value says otherwise than a later one of its key; of mappings, whether one of their keys does."""
    if isinstance(first, dict) and isinstance(last, dict):
        return any(first[key] != last[key] for key in first.keys() & last.keys())
    return not isinstance(first, dict) and not isinstance(last, dict) and first != last


def choices(overrides: list[Override], params: Any) -> list[list[str]]:
    """The overrides of every job. What chooses the frames varies slowest: runs of one recipe are neighbours.

    params: of the sweeper, as an experiment sets them; the command line takes their place.
    """
    keys = {o.key_or_group for o in overrides}
    more = [parse_override(f"{key}={value}") for key, value in params.items() if key not in keys]
    ordered = sorted([*more, *overrides], key=lambda o: not chooses_frames(o.key_or_group))
    settings = [o for o in ordered if not o.is_hydra_override()]
    return [list(choice) for choice in BasicSweeper.split_arguments(settings, None)[0]]


def unswept(overrides: Sequence[Override], params: Any) -> Iterator[str]:
    """A line for everything in a command of one run that several runs alone have a use for.

    params: of the sweeper, as an experiment sets them.
    """
    for override in overrides:
        if not override.is_delete() and override.key_or_group.startswith(OF_SWEEPS):
            yield messages.of_a_sweep(override.input_line or "")
    given = {override.key_or_group for override in overrides}
    if left := [key for key in params if key not in given]:
        named = [o.input_line for o in overrides if o.key_or_group == "experiment"]
        yield messages.is_a_sweep(named[0] if named and named[0] else "hydra.sweeper.params", left)


def lists_no_values(override: Override, mistakes: dict[str, None]) -> bool:
    """Whether a sweep cannot make runs of an override's values: then the reason goes to `mistakes`."""
    value, line = override.value(), override.input_line
    reason = ""
    if isinstance(value, IntervalSweep):  # which a search alone draws from
        reason = "a search draws from intervals; add hydra/sweeper=search, or list the values"
    elif isinstance(value, RangeSweep) and not list(value.range()):
        reason = "names no value; range(0,3) is 0, 1 and 2"
    elif isinstance(value, Glob):
        reason = f"a glob is not read here; list the options, as {override.key_or_group}=a,b"
    if reason:
        mistakes[f"{line}: {reason}"] = None
    return bool(reason)


def search_problems(
    problems_of: Callable[[list[str]], Iterable[str]], overrides: Sequence[Override], params: Any
) -> Iterator[str]:
    """A line for every value that a search could choose, at the ends of its intervals, and no run would take.

    problems_of: the overrides that it adds → what is wrong with them, a line each.
    """
    given = {o.key_or_group for o in overrides}
    spaces = [o for o in overrides if o.is_sweep_override()]
    spaces += [parse_override(f"{key}={space}") for key, space in params.items() if key not in given]
    for space in spaces:
        value = space.value()
        ends = [value.start, value.end] if isinstance(value, IntervalSweep) else []
        listed = value.list if isinstance(value, ChoiceSweep) else []
        for chosen in (*ends, *listed):
            yield from problems_of([f"{space.key_or_group}={Override._get_value_element_as_str(chosen)}"])


def chooses_frames(key: str) -> bool:
    """Whether runs that differ in a key are of different recipes."""
    return key.partition(".")[0] in RECIPE and key not in NO_RECIPE


def expand_home(argument: str) -> str:
    """`paths.outputs=~/x` with the home folder in full: neither the shell nor Hydra does it."""
    key, _, value = argument.partition("=")
    value = value.strip("'\"")
    return f"{key}='{os.path.expanduser(value)}'" if value.startswith("~") and "." in key else argument
