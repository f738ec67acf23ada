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
import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may reach for a hub
os.environ["WANDB_MODE"] = "offline"
os.environ["OMP_NUM_THREADS"] = "1"  # a test a core: threads of several tests that share cores wait for each other

# The same random problems each time, so that a change fails by its own fault; `--hypothesis-profile=default` searches.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in `make test &`: processes that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = (  # whole runs, processes, notebooks, built packages: `make test-fast` leaves them out; the longest first
    "command/test_parallel", "runs/test_sweep", "reporting/test_study", "command/test_cli", "training/test_train",
    "command/test_systems", "store/test_extract", "runs/test_logger", "inference/test_export_onnx",
    "inference/test_model", "inference/test_explain", "test_readme", "test_examples", "test_wheel", "bench/test_bench",
    "inference/test_predict", "inference/test_embed", "inference/test_export_hub", "backbones/test_audeep",
    "runs/test_identity", "command/test_bad_values", "training/test_cluster", "inference/test_integrity",
    "training/test_debug", "training/test_recipes", "training/test_refit", "runs/test_folder", "test_api",
    "runs/test_log", "training/test_classical", "training/test_grid", "training/test_fusion",
    "training/test_datamodule", "reporting/test_workspace", "models/test_module", "core/test_trainer_options",
    "core/test_shim", "core/test_config", "core/test_files", "core/test_helpers", "backbones/test_deepspectrum",
    "inference/test_serve", "inference/test_serve_browser", "inference/test_export_safety",
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
