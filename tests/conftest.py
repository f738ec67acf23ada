"""A small corpus made on the spot, and the real command line."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import drawing
import processes
import pytest
from hypothesis import settings

from emoshare.core.cores import usable_cores

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may reach for a hub
os.environ["WANDB_MODE"] = "offline"
PROCESSES = usable_cores() + 1  # some tests wait for other processes
os.environ["OMP_NUM_THREADS"] = "1"  # a test a core: threads of several tests that share cores wait for each other

# The same random problems each time, so that a change fails by its own fault; `--hypothesis-profile=default` searches.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in `make test &`: processes that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = (  # whole runs, processes, notebooks, built packages, and all that takes longer than 4 s; the longest first
    "runs/test_sweep", "reporting/test_study", "command/test_parallel", "inference/test_export_onnx",
    "command/test_cli", "runs/test_logger", "test_examples", "store/test_extract", "test_readme",
    "backbones/test_audeep", "training/test_train", "inference/test_export_hub", "command/test_bad_values",
    "backbones/test_backbone", "test_api", "inference/test_explain", "metrics/test_own", "command/test_systems",
    "models/test_svr_solver", "runs/test_folder", "inference/test_model", "bench/test_bench", "core/test_config",
    "training/test_cluster", "metrics/test_ceiling", "test_docs", "reporting/test_report", "training/test_debug",
    "backbones/test_packed", "inference/test_serve_browser", "core/test_unread", "inference/test_predict",
    "training/test_fusion", "inference/test_embed", "inference/test_integrity", "training/test_votes",
    "training/test_refit", "command/test_forkserver", "models/test_module", "inference/test_export_native",
    "backbones/test_features", "backbones/test_outside", "training/test_recipes", "backbones/test_inner_encoders",
    "training/test_classical", "command/test_asked", "training/test_ready", "training/test_outside",
    "training/test_concat", "backbones/test_auto", "backbones/test_emotion2vec", "runs/test_identity",
    "backbones/test_mel", "inference/test_serve", "training/test_grid", "runs/test_groups", "reporting/test_choices",
    "reporting/test_groups", "test_wheel", "core/test_shim", "backbones/test_extractor", "inference/test_export_safety",
    "core/test_garbage", "backbones/test_trained_parts", "bench/test_memory", "data/test_demo",
    "metrics/test_distribution", "runs/test_resolved", "command/test_loss_weights", "runs/test_log",
    "training/test_datamodule", "reporting/test_workspace", "core/test_trainer_options", "core/test_files",
    "core/test_helpers", "backbones/test_deepspectrum",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow files, and put them first, so that all processes end at about the same time."""

    def place(item: pytest.Item) -> int:
        path = item.path.with_suffix("").as_posix()
        return next((place for place, name in enumerate(SLOW) if path.endswith(f"/{name}")), len(SLOW))

    for item in items:
        if place(item) < len(SLOW):
            item.add_marker("slow")
    items.sort(key=place)


def pytest_xdist_auto_num_workers() -> int:
    """The processes of `pytest -n auto`."""
    return PROCESSES


def pytest_collection_finish() -> None:
    """What imports made stays: a tenth of the tests' time went into garbage collections that looked at it again."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo corpus of 48 clips; read only."""
    from emoshare.data import demo

    root = tmp_path_factory.mktemp("corpus") / "demo"
    demo.generate(root, 48, 0)
    return root


@pytest.fixture(scope="session", autouse=True)
def dots() -> Iterator[None]:
    """No figures but for tests that use `drawn` or `drawing.real`."""
    with drawing.dots():
        yield


@pytest.fixture(scope="session", autouse=True)
def fork_server(dots: None) -> Iterator[None]:
    """One for all commands: it imports for seconds."""
    with processes.one_fork_server():
        yield


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """What is written waits for no disk: a machine that loses its power is none of what a test can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def drawn() -> Iterator[None]:
    """The figures of this test are drawn."""
    with drawing.real():
        yield


@pytest.fixture(autouse=True)
def _nothing_allowed() -> Iterator[None]:
    """What a test lets in from outside is not let in for the next one."""
    from emoshare.core import outside

    yield
    outside._ALLOWED.clear()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands that a test runs in this process set up the log; the next test finds it as it was."""
    logger = logging.getLogger("emoshare")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def emoshare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """`emoshare(*arguments)`: the command line, in tmp_path, in this process."""
    from emoshare.command.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            status = main(list(arguments))
        except SystemExit as leave:
            status = leave.code if isinstance(leave.code, int) else 1
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def small(corpus_root: Path) -> list[str]:
    """Overrides of a run that takes seconds."""
    return [
        "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "window.seconds=1", "trainer.epochs=2",
        "trainer.progress=false", "logger=none",
    ]  # fmt: skip
