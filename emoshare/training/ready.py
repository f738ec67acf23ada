"""Checks of config, checkpoint, corpus and machine before any run is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from emoshare.backbones.concat import check_windows
from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError, NotAtHandError, paragraphs
from emoshare.core.hardware import resolve_dtype
from emoshare.core.kinds import Options
from emoshare.core.parts import parts_of
from emoshare.core.validate import check
from emoshare.data.partition import Corpus
from emoshare.metrics.registry import problems as metric_problems
from emoshare.runs.resolved import ResolvedRun

Step = Callable[[], Sequence[str]]  # gives notes, a line each; EmoshareError for mistakes


def check_ready(runs: Sequence[ResolvedRun], here: bool = True, training: bool = True) -> list[str]:
    """Check runs before the first of them begins, and return notes on them, a line each.

    These tell of oddities of the corpora, and of runs that lack a checkpoint or package: such a run fails no other.

    Args:
        runs: the runs.
        here: they run on this machine, so that its devices and packages count.
        training: more than frames is computed.

    Raises:
        EmoshareError: a line for everything that would stop one of them.
    """
    mistakes: dict[str, None] = {}
    notes: dict[str, None] = {}
    known: set[str] = set()
    for run in runs:
        for key, step in steps(run, here, training):
            if key in known:
                continue
            known.add(key)
            try:
                notes |= dict.fromkeys(step())
            except NotAtHandError as error:
                notes[f"not at hand: {error}"] = None
            except EmoshareError as error:
                mistakes |= dict.fromkeys(paragraphs(error))
    if mistakes:
        raise EmoshareError("\n".join(mistakes))
    return list(notes)


def steps(run: ResolvedRun, here: bool, training: bool) -> Iterator[tuple[str, Step]]:
    """The checks of a run, each with a text that is equal for runs in which its outcome must be."""
    config, section, window = run.config, run.config.backbone, run.config.window
    yield repr(config), partial(check_config, config, training)
    for backbone in parts_of(section) or [section]:
        yield repr(("backbone", backbone, window)), partial(check_frames, backbone, window)
    yield repr(("parts", section, window)), partial(check_parts, section, window)
    if training:
        yield repr(("head", config.head, section, config.train.mixup)), partial(check_kind, config.head, config)
        if config.head.network:
            yield repr(("loss", config.loss, config.data)), partial(check_kind, config.loss, config)
            yield repr(("optimizer", config.optimizer)), partial(check_kind, config.optimizer, config)
        yield repr(("corpus", config.data, config.limit, config.head.network)), partial(check_corpus, run)
    yield repr(("clips", config.data, config.limit, section)), partial(check_clips, run)
    if here and training:
        yield repr(("machine", config.logger, config.trainer, config.extract, section)), partial(check_machine, run)


def check_config(config: Config, training: bool) -> Sequence[str]:
    """Check every value, and make the folder of the cache. EmoshareError for mistakes."""
    check(config)
    if wrong := list(metric_problems(config)):
        raise EmoshareError("\n".join(wrong))
    if not training and not config.backbone.frozen:
        raise EmoshareError("backbone.frozen=false: frames of a trained backbone are not stored; set it to true")
    if not training and not config.backbone.cache:
        why = "has frames computed anew in each epoch, and extract stores them"
        raise EmoshareError(f"backbone.cache=false: {why}; leave it out")
    Path(config.paths.cache).mkdir(parents=True, exist_ok=True)
    return ()


def check_frames(backbone: BackboneOptions, window: WindowConfig) -> Sequence[str]:
    backbone.check_loadable(window)
    return ()


def check_clips(run: ResolvedRun) -> Sequence[str]:
    """Notes on frames that files hold of the clips. EmoshareError where they lack one."""
    backbone = run.config.backbone
    given = [part for part in parts_of(backbone) or [backbone] if part.from_file]
    return [line for part in given for line in part.check_clips(run.corpus.files, run.cache)]


def check_parts(backbone: BackboneOptions, window: WindowConfig) -> Sequence[str]:
    check_windows(backbone, window)
    return ()


def check_kind(chosen: Options, config: Config) -> Sequence[str]:
    chosen.check(config)
    return ()


def check_corpus(run: ResolvedRun) -> Sequence[str]:
    """Oddities of the corpus. EmoshareError where it cannot be used, or a batch cannot be filled."""
    clips, size = len(run.corpus.partitions["train"].files), run.config.data.batch_size
    if run.config.head.network and clips < size:
        raise EmoshareError(f"data.batch_size={size}: the train partition has only {clips} clips")
    return oddities(run.corpus)


def oddities(corpus: Corpus) -> list[str]:
    """Oddities of a corpus, a line for each kind."""
    return [f"{warning.splitlines()[0]}; `emoshare check` says which" for warning in corpus.warnings]


def check_machine(run: ResolvedRun) -> Sequence[str]:
    """Raise EmoshareError for a logger, a device or a precision that this machine lacks."""
    run.config.logger.check(run.config)
    assert run.precision  # chosen for its device
    if not run.config.in_loop:
        resolve_dtype(run.config.extract.compute, run.device)
    return ()
