"""Files and folders are replaced as a whole, whatever kills the process; what it leaves behind is swept up."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

from emoshare.command.messages import one_line
from emoshare.core import files, leftovers
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing, replacing_folder, write_text
from emoshare.core.leftovers import repair_folder, sweep_leftovers, temporary_folder

HEX = "0123456789abcdef"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(path: Path, seconds: float = 4000) -> Path:
    """Date a file, or a folder with all in it, back."""
    for one in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
        os.utime(one, (time.time() - seconds,) * 2, follow_symlinks=False)
    return path


def make(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "a").write_text(content)
    (folder / "deep").mkdir()
    (folder / "deep" / "b").write_text(content)
    return folder


def content(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_and_has_the_usual_mode(tmp_path):
    (tmp_path / "usual").touch()
    for text in ("old", "new"):
        write_text(tmp_path / "a.json", text)
    assert (tmp_path / "a.json").read_text() == "new"
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert names(tmp_path) == ["a.json", "usual"]


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path):
    write_text(tmp_path / "a.json", "old")
    with suppress(ZeroDivisionError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".json"
        raise ZeroDivisionError
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr(leftovers.secrets, "token_hex", lambda _: HEX)
    (tmp_path / f".a-{HEX}.part.json").symlink_to(tmp_path / "victim")
    (tmp_path / f".a-{HEX}.part").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a.json", "new")
    with pytest.raises(FileExistsError), replacing_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("exchanging", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_a_folder_is_replaced(tmp_path, monkeypatch, exchanging, old):
    if not exchanging:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    path = tmp_path / "report"
    if old:
        make(path, "old")
        (path / "link").symlink_to(make(tmp_path / "elsewhere", "precious"))
    with replacing_folder(path) as folder:
        (folder / "a").write_text("new")
        assert not old or content(path) >= {"old"}
    assert content(path) == {"new"}
    assert names(path) == ["a"]
    assert names(tmp_path) == (["elsewhere"] if old else []) + ["report"]
    assert not old or content(tmp_path / "elsewhere") == {"precious"}


def test_a_block_that_fails_leaves_the_old_folder_alone(tmp_path):
    make(tmp_path / "report", "old")
    with suppress(ZeroDivisionError), replacing_folder(tmp_path / "report") as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert content(tmp_path / "report") == {"old"}
    assert names(tmp_path) == ["report"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    make(tmp_path / "disk" / "run", "old")
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    with replacing_folder(tmp_path / "run") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "run").is_symlink()
    assert content(tmp_path / "disk" / "run") == {"new"}
    assert names(tmp_path / "disk") == ["run"]


KILL = """
import os, sys
from pathlib import Path
from emoshare.core import files, leftovers
left, exchanging = int(sys.argv[2]), sys.argv[3] == "True"
if not exchanging:
    files.exchange = lambda *_: False

def deadly(function):
    def call(*args, **kwargs):
        global left
        if not left:
            os._exit(9)
        left -= 1
        return function(*args, **kwargs)
    return call

for module, name in ((os, "rename"), (os, "fsync"), (os, "open"), (files, "exchange"), (leftovers.shutil, "rmtree")):
    setattr(module, name, deadly(getattr(module, name)))
with files.replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("new")
    (folder / "deep").mkdir()
    (folder / "deep" / "b").write_text("new")
"""


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, exchanging):
    if exchanging and not files.exchange(make(tmp_path / "a", "a"), make(tmp_path / "b", "b")):
        pytest.skip("this file system cannot exchange two names")
    seen, missing = [], 0
    for steps in range(30):
        path = make(tmp_path / str(steps) / "report", "old")
        status = subprocess.run([sys.executable, "-c", KILL, path, str(steps), str(exchanging)], check=False).returncode
        missing += not path.exists()
        repair_folder(path)
        (found,) = content(path)  # all files agree
        assert names(path) == ["a", "deep"]
        seen.append(found)
        for rest in path.parent.iterdir():
            age(rest)
        sweep_leftovers(path.parent)
        assert names(path.parent) == ["report"]
        if status == 0:
            break
    assert status == 0
    assert seen == sorted(seen, reverse=True)  # the old, and from some step on the new
    assert missing == (0 if exchanging else 1)
    assert seen[0] == "old"
    assert seen[-1] == "new"


@pytest.mark.parametrize(("exchanging", "locking"), [(True, True), (False, True), (True, False), (False, False)])
def test_processes_at_once_do_not_fail_each_other(tmp_path, monkeypatch, exchanging, locking):
    if not exchanging:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    if not locking:  # as on some network file systems
        monkeypatch.setattr(files, "lock_folder", nullcontext)
        monkeypatch.setattr(leftovers, "lock_folder", nullcontext)
    path, failures = make(tmp_path / "report", "old"), []

    def replace(number: int) -> None:
        try:
            for i in range(10):
                with replacing_folder(path) as folder:
                    for name in ("a", "b"):
                        (folder / name).write_text(f"{number} {i}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(content(path)) == 1
    assert names(tmp_path) == ["report"]


LEFT = [
    f".results-{HEX}.part.json", f".complete-{HEX}.part",
]  # fmt: skip
OTHERS = [".results.json", ".hidden-123.json", ".bashrc", ".profile-2024.yaml", "results-123.json", ".x-123.part"]


def test_only_old_leftovers_are_swept(tmp_path):
    for name in (*LEFT, *OTHERS):
        (tmp_path / name).touch()
        age(tmp_path / name)
    (tmp_path / f".young-{HEX}.part.json").touch()
    age(make(tmp_path / f".report-{HEX}.part", "x"))
    age(make(tmp_path / ".demo-settings", "precious"))
    make(tmp_path / f".busy-{HEX}.part", "x")
    for name in (".", "a", "deep"):
        age(tmp_path / f".busy-{HEX}.part" / name)  # and deep/b is young
    (tmp_path / f".link-{HEX}.part").symlink_to(make(tmp_path / "elsewhere", "precious"))
    age(tmp_path / f".link-{HEX}.part")
    os.utime(tmp_path / f".busy-{HEX}.part" / "deep" / "b")
    sweep_leftovers(tmp_path)
    kept = [*OTHERS, f".young-{HEX}.part.json", ".demo-settings", f".busy-{HEX}.part", "elsewhere"]
    assert names(tmp_path) == sorted(kept)
    assert content(tmp_path / "elsewhere") == {"precious"}


def test_a_folder_that_a_process_holds_is_kept_however_old(tmp_path):
    with temporary_folder(tmp_path / "run") as folder:
        age(folder)
        sweep_leftovers(tmp_path)
        assert folder.exists()
    age(make(folder, "left"))
    sweep_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_the_first_write_in_a_folder_sweeps_it(tmp_path):
    age(make(tmp_path / f".run-{HEX}.part", "left"))
    write_text(tmp_path / "a.json", "text")
    assert names(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be_read_is_let_be(tmp_path):
    sweep_leftovers(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        ValueError("x"),
    ],
)
def test_a_full_disk_is_named_whatever_library_met_it(tmp_path: Path, error: Exception) -> None:
    cause = OSError(errno.ENOSPC, "No space left on device") if isinstance(error, ValueError) else None
    for write in (files.replacing, files.replacing_folder):
        with pytest.raises(OSError, match="No space left on device") as caught, write(tmp_path / "x.bin"):
            raise error from cause
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / "x.bin")
        assert one_line(caught.value).startswith(f"{tmp_path}/x.bin: No space left on device; free some space")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".csv")
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_what_a_full_disk_would_kill_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to a page of a file that has no space on the disk is a bus error."""
    path = tmp_path / "x.npy"
    np.lib.format.open_memmap(path, "w+", np.float64, (1000, 1000))
    assert path.stat().st_blocks * 512 < 1_000_000
    files.reserve(path)
    assert path.stat().st_blocks * 512 >= 8_000_000

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.reserve(path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files", "/x"),
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
        EmoshareError("/x: not readable ([Errno 24] Too many open files: '/x'); force=true trains the run again"),
        OSError("Caught OSError in DataLoader worker process 0.\n…\nOSError: [Errno 24] Too many open files: '/x'"),
    ],
)
def test_too_many_open_files_have_one_remedy(error: Exception) -> None:
    said = one_line(error)
    assert "Too many open files; raise the limit (`ulimit -n 65536`)" in said
    assert "\n" not in said
    assert "force=true" not in said


@pytest.mark.parametrize("alone", [True, False])
def test_leftovers_in_a_whole_tree_go(tmp_path: Path, alone: bool) -> None:
    kept = tmp_path / "predictions/devel.csv"
    files.write_text(kept, "x")
    new, old = (tmp_path / f"predictions/.devel-{digit * 16}.part.csv" for digit in "ab")
    for path in (new, old):
        path.touch()
    os.utime(old, (0, 0))
    leftovers.sweep_tree(tmp_path, alone)
    assert kept.exists()
    assert not old.exists()
    assert new.exists() != alone


def test_a_folder_is_replaced_within_one_that_is_made(tmp_path: Path) -> None:
    """As an evaluation's groups are; the lock on the outer one is this process's own."""
    with replacing_folder(tmp_path / "outer") as outer:
        for text in ("1", "2"):
            with replacing_folder(outer / "inner") as inner:
                (inner / "file").write_text(text)
    assert (tmp_path / "outer/inner/file").read_text() == "2"
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["inner"]
