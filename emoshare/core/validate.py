"""Validation of a config's values: all mistakes at once, a line for each.

Ranges and choices are declared beside the keys in `config`; rules over several keys are functions here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from emoshare.core import ensembles, trainer_options, variants
from emoshare.core.config import Config, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.ranges import is_range
from emoshare.core.schema import LONGEST_NAME, MISSING, Declared, keys_of, value_at, value_text
from emoshare.core.text import near, several

NO_TARGETS = "data.targets=[]"


def check(config: Config) -> None:
    """Raise EmoshareError with a line for every mistake; each names the key and what it takes."""
    if mistakes := find_mistakes(config):
        raise EmoshareError("\n".join(mistakes))


def find_mistakes(config: Config, known: Collection[str] = ()) -> list[str]:
    """A line for every value that its key does not take, and for every rule over several keys that is broken.

    known: dotted keys with a mistake that was reported before; they are left out.
    """
    mistakes: list[str] = []
    faulty = set(known)
    for name, declared in keys_of(config).items():
        if name not in known and declared.type is not Any and (problem := _problem(declared, value_at(config, name))):
            mistakes.append(f"{name}{problem}")
            faulty.add(name)
    faulty |= {name.partition(".")[0] for name in faulty}
    for keys, rule in RULES.items():
        if not faulty & set(keys):
            mistakes += rule(config)
    return mistakes


def _problem(declared: Declared, value: Any) -> str:
    """The mistake in one value, to follow the key's name; empty where there is none."""
    if value == MISSING:
        return f" is not set: {declared.key.meaning or 'it has no default'}"
    if value is None:
        return "" if declared.optional else "=null: must have a value"
    if isinstance(value, list):
        return next(filter(None, (_item_problem(declared, item, value) for item in value)), "")
    if isinstance(value, bool | dict):
        return ""
    if isinstance(value, str):
        return _text_problem(declared, value, value)
    if declared.key.holds(value):
        return ""
    finite = "" if math.isfinite(value) else "a finite number"
    return f"={value_text(value)}: must be {', '.join(filter(None, (finite, declared.key.range_text())))}"


def _item_problem(declared: Declared, item: Any, whole: list[Any]) -> str:
    """The mistake in an element of the list `whole`."""
    if isinstance(item, str):
        return _text_problem(declared, item, whole)
    if isinstance(item, dict):
        return ""  # a section, which has a rule of its own
    if not isinstance(item, int | float):
        return f"={value_text(whole)}: each must be a word, or keys as in {{name: a}}"
    if declared.key.holds(item):
        return ""
    return f"={value_text(whole)}: each must be a finite number, {declared.key.range_text()}"


def _text_problem(declared: Declared, text: str, whole: Any) -> str:
    """The mistake in a text, or in an element of the list `whole`."""
    key, given = declared.key, f"={value_text(whole)}"
    if key.choices:
        choices = [*key.choices, *(["null"] if declared.optional else [])]
        return "" if text in key.choices else f"{given}: must be one of {', '.join(choices)}{near(text, choices)}"
    if not text.strip():
        where = "an element must not be empty" if isinstance(whole, list) else "must not be empty"
        return f"{given}: {where}{'; null means none' if declared.optional else ''}"
    if not text.isprintable():
        return f"{given}: must not hold control characters"
    if key.words:
        return "" if text in key.words or _number_in(declared, text) else f"{given}: must be {key.range_text()}"
    if key.file_name and (text.startswith(".") or set(text) & set("/\\") or len(text) > LONGEST_NAME):
        return f"{given}: must be a file name: no slash, no dot at its start, at most {LONGEST_NAME} characters"
    return ""


def _number_in(declared: Declared, text: str) -> bool:
    """Whether a text is a number in the key's range."""
    try:
        return declared.key.holds(int(text) if declared.key.whole else float(text))
    except ValueError:
        return False


def _batch(config: Config) -> Iterator[str]:
    least = max(config.head.least_batch, config.loss.least_batch)
    if config.head.network and config.data.batch_size < least:
        yield f"data.batch_size={config.data.batch_size}: head and loss need batches of {least} or more clips"


def _labels(config: Config) -> Iterator[str]:
    targets, span = config.data.targets, config.data.range
    if not targets:
        yield f"{NO_TARGETS}: name at least one label column"
    own = {"filename", "seconds", "mean", *(["votes"] if config.data.normalize == "votes" else [])}
    for name in sorted(set(targets) & own):
        yield f"data.targets: {name} is a column of the run's own tables; rename the label column"
    for name in sorted({name for name in targets if targets.count(name) > 1}):
        yield f"data.targets={value_text(targets)}: {name} is named twice"
    if not is_range(span):
        yield f"data.range={value_text(span)}: must be the lowest and the highest label, as [1,7]"
    elif span != [0, 1] and config.data.normalize != "none":
        how = config.data.normalize
        yield f"data.range={value_text(span)}: data.normalize={how} divides labels by their sum; leave one out"


def _votes(config: Config) -> Iterator[str]:
    if config.head.network and config.train.drop_votes and config.data.normalize != "votes":
        yield (
            f"train.drop_votes={value_text(config.train.drop_votes)}: there are no votes to leave out; set "
            "data.normalize=votes, or leave it 0"
        )


def _columns(config: Config) -> Iterator[str]:
    data = config.data
    for name in sorted(set(map(str, data.splits)) - {"train", "devel", "test"}):
        yield f"data.splits.{name}: no such partition; name train, devel and test"
    for word, column in data.columns.items():
        if not isinstance(column, str | int | float) or column == "":
            yield f"data.columns.{word}={value_text(column)}: must be the name of a column"
    groups = [*data.groups, *filter(None, (data.cluster, data.folds))]
    known = ["file", "split", "start", "end", "label", *data.targets, *groups]
    for word in sorted(set(map(str, data.columns)) - set(known)):
        hint = near(word, known, 0.75) or _target_hint(word, data.targets)
        yield f"data.columns.{word}: is neither file, split, start, end, label, a target nor a group{hint}"


def _target_hint(word: str, targets: list[str]) -> str:
    """The remedy for a word of data.columns that is none that is known."""
    close = near(word, targets)
    named = f" (now {several(targets, 9)})" if targets else ""
    return (
        f"{f'{close} Else' if close else ';'} add it to data.targets{named} or data.groups if it is to be one of them"
    )


def _rows(data: DataConfig) -> Iterator[str]:
    patterns = {f"data.rows.{column}": str(pattern) for column, pattern in data.rows.items()}
    for key, pattern in (patterns | ({"data.pattern": data.pattern} if data.pattern else {})).items():
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            yield f"{key}={value_text(pattern)}: is no regular expression ({error})"
            continue
        if key == "data.pattern" and not groups:
            yield f"{key}={value_text(pattern)}: names no column, as (?P<speaker>\\d+) does"
    for target in sorted(set(map(str, data.classes)) - set(data.targets)):
        leave_out = f"; a class of a YAML is left out by ~data.classes.{target}"
        yield f"data.classes.{target}: is no target{near(target, data.targets) or leave_out}"
    for target, values in data.classes.items():
        if not all(isinstance(v, str | int | float) for v in (values if isinstance(values, list) else [values])):
            yield f"data.classes.{target}={value_text(values)}: must be a value of the label column, or a list of some"
    if data.table == "files" and not data.pattern:
        yield "data.table=files: needs data.pattern, which tells the labels from the names of files"


def _balance(config: Config) -> Iterator[str]:
    data, balance = config.data, config.balance
    known = ["targets", *dict.fromkeys([*data.groups, *filter(None, [data.cluster])])]
    if config.head.network and config.sampler == "balanced" and balance not in known:
        hint = near(balance, known)
        yield f"balance={balance}: must be one of {', '.join(known)}; name other columns in data.groups{hint}"


def _folds(config: Config) -> Iterator[str]:
    folds, fold = config.data.folds, config.data.fold
    if folds is None:
        if fold is not None:
            yield f"data.fold={fold}: of which folds? Set data.folds to a number, or to a column as speaker"
        return
    if folds.lstrip("-").replace(".", "").isdigit():
        if not folds.isdigit() or int(folds) < 2:
            yield f"data.folds={folds}: must be a whole number of at least 2, or a column as speaker"
        elif fold is None or fold >= int(folds):
            yield f"data.fold={value_text(fold)}: with data.folds={folds} one of 0 to {int(folds) - 1}"
    elif fold is None:
        yield f"data.fold=null: with data.folds={folds} a number from 0, one for each {folds}"


def _group_names(config: Config) -> Iterator[str]:
    data = config.data
    names: dict[str, list[Any]] = {"groups": data.groups, "cluster": [data.cluster], "folds": [data.folds]}
    taken = {"filename", *data.targets}
    for key, columns in names.items():
        for name in sorted(taken.intersection(columns)):
            yield f"data.{key}: {name} is the file name or a label, and no group of clips; name another column"
    for name in sorted({name for name in data.groups if data.groups.count(name) > 1}):
        yield f"data.groups={value_text(data.groups)}: {name} is named twice"


def _loss(config: Config) -> Iterator[str]:
    if config.head.network:
        yield from config.loss.problems(config)


def _optimizer(config: Config) -> Iterator[str]:
    if config.head.network:
        yield from config.optimizer.problems(config)


def _backbone(config: Config) -> Iterator[str]:
    yield from config.backbone.problems(config)


def _head(config: Config) -> Iterator[str]:
    yield from config.head.problems(config)


def _stored_frames(config: Config) -> Iterator[str]:
    if not config.head.network and config.in_loop:
        yield (
            f"head.name={config.head.name}: it is fitted on stored frames; that takes backbone.frozen=true, "
            "backbone.cache=true and a window.crop that is not random"
        )


def _epochs(config: Config) -> Iterator[str]:
    if not config.head.network:
        return
    epochs, warmup, average = config.trainer.epochs, config.optimizer.warmup, config.train.average
    if warmup >= epochs:
        yield f"optimizer.warmup={value_text(warmup)}: must be less than trainer.epochs, {epochs}"
    if average > epochs:
        yield f"train.average={average}: must be at most trainer.epochs, {epochs}"


def _clip(config: Config) -> Iterator[str]:
    if config.optimizer.clip is not None and "gradient_clip_val" in config.trainer.options:
        yield "optimizer.clip: trainer.options.gradient_clip_val says it, too; leave that out"


def _options(config: Config) -> Iterator[str]:
    yield from trainer_options.problems_of(config.trainer.options)


def _augment(config: Config) -> Iterator[str]:
    yield from variants.problems(config.augment)
    if config.augment and config.in_loop:
        reason = config.unstorable or "backbone.cache is false"
        yield f"augment: frames of the variants are stored once, and here {reason}; leave it empty, or store frames"


def _fusions(config: Config) -> Iterator[str]:
    yield from ensembles.problems_of(config.sweep.fuse)


BACKBONE = (
    "backbone.type", "backbone.parts", "backbone.layer", "backbone.layers", "backbone.frozen", "backbone.cache",
    "window.crop",
)  # fmt: skip
RULES: dict[tuple[str, ...], Callable[[Config], Iterator[str]]] = {  # the keys that a rule is about → the rule
    ("data.batch_size", "head", "loss"): _batch,
    ("data.targets", "data.range", "data.normalize"): _labels,
    ("data.normalize", "train.drop_votes", "head"): _votes,
    ("sampler", "balance", "data.groups", "data.cluster", "head"): _balance,
    ("data.folds", "data.fold"): _folds,
    ("data.columns", "data.splits", "data.targets", "data.groups", "data.cluster", "data.folds"): _columns,
    ("data.groups", "data.cluster", "data.folds", "data.targets"): _group_names,
    ("data.rows", "data.pattern", "data.classes", "data.targets", "data.table"): lambda config: _rows(config.data),
    ("head", "loss"): _loss,
    ("head", "optimizer"): _optimizer,
    BACKBONE: _backbone,
    ("augment", "backbone.frozen", "backbone.cache", "window.crop"): _augment,
    ("head", "train.mixup"): _head,
    ("head", "backbone.frozen", "backbone.cache", "window.crop"): _stored_frames,
    ("trainer.options",): _options,
    ("sweep.fuse",): _fusions,
    ("trainer.options", "optimizer.clip"): _clip,
    ("trainer.epochs", "optimizer.warmup", "train.average"): _epochs,
}  # fmt: skip
