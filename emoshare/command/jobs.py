"""A job of a command, without the values that it does not read; what no job reads is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emoshare.command.overrides import parse_override
from emoshare.core.config import Config
from emoshare.core.kinds import ROOMS, TARGET, class_of, values_of
from emoshare.core.schema import keys_of, value_at, value_text
from emoshare.core.unread import find_keys_of_others, find_unread_values


@dataclass(frozen=True)
class Job:
    """One config of a command."""

    config: Config
    overrides: list[str]  # that make it alone
    others: dict[str, Any] = field(default_factory=dict)  # keys of classes that its config does not hold → their values


def reset_unread(
    jobs: Sequence[Job], searched: set[str], mistakes: dict[str, None], compose: Callable[[list[str]], Job]
) -> list[Job]:
    """The jobs without values that they do not read, as another job may; what no job reads goes to `mistakes`.

    A file's number of epochs does not: debug=fdr is for heads without epochs, too.

    Args:
        jobs: of one command.
        searched: keys and groups whose values a search chooses.
        mistakes: a line each.
        compose: the job of some overrides.
    """
    vain = [
        find_unread_values(job.config, searched) | find_keys_of_others(job.config, job.others, searched) for job in jobs
    ]
    typed = {parse_override(line).key_or_group for job in jobs for line in job.overrides}
    named = {name: (job, key) for job, unread in zip(jobs, vain, strict=True) for name, key in unread.items()}
    for name, (job, key) in named.items():
        read = any(name not in unread and _is_given(job.config, name) for job, unread in zip(jobs, vain, strict=True))
        if not read and (name != "trainer.epochs" or name in typed):
            mistakes[f"{_override_text(name, key.value, job)}: {key.reason}"] = None
    if mistakes:
        return list(jobs)
    return [_at_defaults(job, unread, compose) if unread else job for job, unread in zip(jobs, vain, strict=True)]


def _override_text(name: str, value: Any, job: Job) -> str:
    """A key and its value; or the group that was typed and has set it, as loss=mse for loss.ccc=0."""
    typed = {parse_override(text).key_or_group: text for text in job.overrides}
    group = name.partition(".")[0]
    return typed[group] if group in typed and name not in typed else f"{name}={value_text(value)}"


def _is_given(config: Config, name: str) -> bool:
    """Whether a config has a key, with another value than its default."""
    key = keys_of(config).get(name)
    return key is not None and value_at(config, name) != key.default


def _at_defaults(job: Job, keys: Collection[str], compose: Callable[[list[str]], Job]) -> Job:
    """The job with some keys at their defaults, so that what it notes of itself says nothing that it does not do.

    Its overrides are those that were typed, without the keys. Where a file of the config, as an experiment, gives one
    its value, the default is added to them: they alone are to make the job again.
    """
    defaults = {name: line for name in keys if (line := _reset(job.config, name))}
    kept = [line for line in job.overrides if parse_override(line).key_or_group not in keys]
    sections = {name.partition(".")[0] for name in keys}
    wanted = values_of(job.config)
    for lines in ([line for line in kept if parse_override(line).key_or_group not in sections], kept):
        if values_of(compose(lines).config) == wanted:
            return replace(job, overrides=lines, others={})
    replaced = tuple(name.partition(".")[0] for name in keys if _is_class(name))  # by the class that is the default
    kept = [line for line in kept if not line.startswith(replaced)]
    again = compose(kept).config
    added = [line for name, line in defaults.items() if value_at(again, name) != value_at(job.config, name)]
    return replace(job, overrides=[*kept, *added], others={})


def _is_class(name: str) -> bool:
    """Whether a key chooses the class of its section, with other keys."""
    section, _, key = name.rpartition(".")
    return section in ROOMS and key in (TARGET, "name")


def _reset(config: Config, name: str) -> str:
    """Set a key to its default; the override that does so, empty where that is none of its own."""
    section, _, key = name.rpartition(".")
    if name not in keys_of(config):
        return ""
    if _is_class(name):
        setattr(config, section, class_of(section, {})())
        return ""
    default = keys_of(config)[name].default
    setattr(value_at(config, section), key, copy.deepcopy(default))
    return f"{name}={value_text(default)}"
