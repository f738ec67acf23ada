"""Processes forked from one that has imported the libraries, and those that are not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoshare.command import forkserver
from emoshare.core.errors import EmoshareError

forked = pytest.mark.skipif(not forkserver.can_fork(), reason="nothing is forked here")


@pytest.fixture(params=[True, False], ids=["forked", "an interpreter of its own"])
def _forked(request, monkeypatch) -> Iterator[bool]:
    if request.param and sys.platform != "linux":
        pytest.skip("only Linux forks")
    monkeypatch.setattr(forkserver, "can_fork", lambda: request.param)
    yield request.param
    forkserver.stop()


@pytest.mark.usefixtures("_forked")
def test_an_answer_of_another_process_comes_back_and_so_does_its_error() -> None:
    assert forkserver.apart("operator", "add", 1, 2) == 3
    assert forkserver.apart("os", "getpid") != os.getpid()
    with pytest.raises(ZeroDivisionError):
        forkserver.apart("operator", "truediv", 1, 0)
    with pytest.raises(EmoshareError, match="speed3"):
        forkserver.apart("emoshare.core.variants", "variant", "speed3")
    with pytest.raises(RuntimeError, match=r"without an answer \(status 3\)"):
        forkserver.apart("os", "_exit", 3)


@forked
def test_a_forked_process_has_the_folder_and_the_variables_of_today(tmp_path, monkeypatch) -> None:
    forkserver.prepare()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TODAY", "yes")
    assert forkserver.apart("os", "getenv", "TODAY") == "yes"
    assert Path(forkserver.apart("os", "getcwd")) == tmp_path


@forked
def test_libraries_are_imported_before_the_fork_and_no_gpu_is_looked_at() -> None:
    """A process in which CUDA was set up must not be forked."""
    forkserver.apart("builtins", "exec", "import sys; assert 'pytorch_lightning' in sys.modules")
    forkserver.apart("builtins", "exec", "import torch; assert not torch.cuda.is_initialized()")


@forked
def test_what_is_forked_ends_with_a_server_that_is_killed() -> None:
    process, wire = forkserver.start("emoshare.command.worker:main")
    assert process.poll() is None
    os.kill(forkserver._servers[0].process.pid, signal.SIGKILL)
    assert wire.poll(60)  # the worker has ended, too
    assert process.wait() == -signal.SIGKILL
    forkserver.stop()
