"""Processes that help: they end with the block, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emoshare.core.helpers import helping


def note_and_wait(number: int, folder: Path) -> None:
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(60)


def fail(number: int, folder: Path) -> None:
    (folder / "failed").touch()
    raise ValueError("GPU on fire")


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def noted(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in folder.glob("?-*")]


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_helpers_end_with_the_block(tmp_path, error):
    def block() -> None:
        with helping(2, note_and_wait, (tmp_path,)):
            wait_for(lambda: len(noted(tmp_path)) == 2)
            if error:
                raise error

    if error:
        with pytest.raises(error):
            block()
    else:
        block()
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["1", "2"]
    assert not any(map(runs, noted(tmp_path)))


def test_helpers_end_when_their_parent_is_killed(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from test_helpers import helping, note_and_wait
with helping(2, note_and_wait, (Path({str(tmp_path)!r}),)):
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: len(noted(tmp_path)) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(map(runs, noted(tmp_path))), 10)


def test_a_helper_that_fails_is_warned_of(tmp_path, caplog):
    with helping(1, fail, (tmp_path,)):
        wait_for((tmp_path / "failed").exists)
        time.sleep(1)  # until it has ended
    assert "a helper process failed (ValueError: GPU on fire); the others did its work" in caplog.text


def test_no_helper_is_no_process(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with helping(0, fail, ()):
        pass
