"""A run in a process of its own, so that a crash of the interpreter costs one run."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from emoshare.core.errors import EmoshareError
from emoshare.runs.folder import Run
from emoshare.runs.results import Results

VARIABLE = "EMOSHARE_ISOLATED"  # set in the environment of such a process


class RecordedError(EmoshareError):
    """A run failed in a process of its own, which has said why, on the terminal and in failure.json."""


def is_isolated() -> bool:
    """Whether this process was started for one run of a sweep."""
    return VARIABLE in os.environ


def stop_with_parent() -> None:
    """Be interrupted when the sweep that started this process dies. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def train_isolated(run: Run, arguments: list[str]) -> Results:
    """Train a run in a process of its own; `arguments` follow `emoshare`.

    Raises:
        RecordedError: the run failed, and its process recorded why.
        EmoshareError: the process died without a record.
    """
    command = [sys.executable, "-m", "emoshare", *arguments, "sweep.isolate=false"]
    earlier = _stamp(run.failure_path)
    # a process group of its own: Ctrl-C reaches this process alone, which passes it on
    process = subprocess.Popen(command, env={**os.environ, VARIABLE: "1"}, process_group=0)
    status = _wait(process)
    if status == 0 and (results := run.results()):
        return results
    if _stamp(run.failure_path) not in (None, earlier):
        raise RecordedError(f"{run.name} failed in its own process")
    reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise EmoshareError(f"the run's process was {reason}")


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit status. Ctrl-C is passed on, and raised here once the process has closed its files and ended."""
    interrupted = False
    while process.poll() is None:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
