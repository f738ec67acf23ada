"""A run is resolved once: whatever it is asked for, the corpus is read and its identity worked out a single time."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest
from composed import config

from emoshare.core import hardware
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.runs import folder, identity, resolved
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import source

COUNTED = {  # what a run is resolved by → the modules that call it
    "load": (corpus, resolved),
    "known_corpus": (corpus,),
    "known_corpus_of": (identity, resolved),
    "sources_of": (identity, resolved),
    "identify": (identity, resolved, folder),
    "choose_device": (hardware,),
    "choose_precision": (hardware,),
    "extractor_of": (source,),
}


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """How often each of these is called."""
    found: Counter[str] = Counter()
    for name, modules in COUNTED.items():
        plain = getattr(modules[0], name)

        def counted(*args: Any, _name: str = name, _plain: Any = plain, **more: Any) -> Any:
            found[_name] += 1
            return _plain(*args, **more)

        for module in modules:
            monkeypatch.setattr(module, name, counted)
    return found


@pytest.mark.parametrize("more", [[], ["backbone.cache=false"], ["data.folds=2", "data.fold=0"]])
def test_one_training_resolves_its_run_once(emoshare, small, calls, more) -> None:
    done = emoshare("train", *small, *more)
    assert done.status == 0, done.err
    once = dict.fromkeys(COUNTED, 1) | {"extractor_of": int("backbone.cache=false" not in more)}
    assert {name: calls[name] for name in COUNTED} == once


def test_a_finished_run_is_skipped_without_its_corpus(emoshare, small, calls) -> None:
    assert emoshare("train", *small).status == 0
    calls.clear()
    assert emoshare("train", *small).status == 0
    assert calls["load"] + calls["choose_device"] + calls["extractor_of"] == 0
    assert calls["identify"] == 2  # the one that is asked for, and the one that lies in the folder


def test_a_process_that_is_sent_a_run_does_not_resolve_it_again(corpus_root, tmp_path, calls) -> None:
    run = ResolvedRun(config(f"data.root={corpus_root}", f"paths.cache={tmp_path}", "backbone=logmel"))
    name = run.run.name
    calls.clear()
    sent = pickle.loads(pickle.dumps(run))
    assert (sent.run.name, sent.identity) == (name, run.identity)
    assert not calls


def test_a_corpus_that_has_changed_since_is_an_error(corpus_root, tmp_path) -> None:
    run = ResolvedRun(config(f"data.root={corpus_root}", f"paths.cache={tmp_path}", "backbone=logmel"))
    run.known_corpus = run.known_corpus._replace(fingerprint="another", read=None)
    with pytest.raises(EmoshareError, match="the corpus has changed while the command ran"):
        _ = run.corpus


def test_a_run_on_another_gpu_is_the_same_run(corpus_root, tmp_path) -> None:
    run = ResolvedRun(config(f"data.root={corpus_root}", f"paths.cache={tmp_path}", "trainer.device=null"))
    assert run.on_gpu(1).run == run.run
    assert run.on_gpu(1).config.trainer.device == 1
