"""All stores of a cache: what is listed, verified and pruned, and what never is."""

import fcntl
import os
import re
import shutil
import tempfile
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from stored import RECIPE, assert_holds, begin, build, clips, fill, keys, make_stores

from emoshare.core.errors import EmoshareError
from emoshare.store import cache, locks, segments
from emoshare.store.frames import FrameStore, Request, store_folder

Usage = namedtuple("Usage", "total used free")


def change_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-segments.FOOT.size - 1] ^= 1
    path.write_bytes(content)


def test_verify_finds_a_changed_byte_and_repair_costs_its_clips_alone(tmp_path):
    data = clips()
    folder, recipe, request = build(tmp_path, data)
    assert cache.verify(folder) == []
    paths = [folder / "segments" / name for name in segments.names(folder)]
    change_last_byte(paths[2])
    os.truncate(paths[4], 40)
    assert cache.verify(folder) == [paths[2], paths[4]]
    assert cache.repair(folder, [paths[2], paths[4]])
    assert cache.verify(folder) == []
    [listed] = cache.stores(tmp_path)
    assert (listed.state, listed.clips + listed.missing) == ("partial", 23)
    assert 4 <= listed.missing <= 8
    with pytest.raises(EmoshareError, match="not all of these frames"):
        FrameStore(folder, recipe, request)
    fill(folder, recipe, data)
    assert_holds(FrameStore(folder, recipe, request), data)


def test_the_seconds_that_frames_took_are_verified_too(tmp_path):
    folder, _, _ = build(tmp_path, clips())
    path = folder / "segments" / segments.names(folder)[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cache.verify(folder) == [path]


def test_prune_takes_the_least_recently_used_and_nothing_in_use(tmp_path):
    made = make_stores(tmp_path)
    folders = [folder for folder, _, _ in made]
    used = FrameStore(*made[0])
    os.utime(folders[0] / "requests" / made[0][2].digest, (1, 1))  # oldest, but open
    assert [s.busy for s in cache.stores(tmp_path)] == [True, False, False, False]
    with made[1][2].hold(*made[1][:2]):
        os.utime(folders[1] / "requests" / made[1][2].digest, (2, 2))
        removed = cache.prune(tmp_path, max_gb=0.0032)
        assert [s.folder for s in removed] == [folders[2]]
    removed = cache.prune(tmp_path, max_gb=0.0022)
    assert [s.folder for s in removed] == [folders[1]]
    assert [s.folder for s in cache.stores(tmp_path)] == [folders[0], folders[3]]
    assert used.arrays([0])[0].all()
    del used
    assert len(cache.prune(tmp_path, max_gb=0)) == 2
    assert cache.stores(tmp_path) == []
    assert not [folder for folder in folders if folder.exists()]


def test_a_pruned_request_leaves_what_others_need(tmp_path):
    data = clips(12)
    folder, recipe, request = build(tmp_path, data)  # segments of clips 0 to 3, 4 to 7, 8 to 11
    some = Request("some", keys(3, first=3))
    for age, asked in enumerate((request, some)):
        asked.hold(folder, recipe).close()
        os.utime(folder / "requests" / asked.digest, (1000 + age, 1000 + age))
    sizes = [s.bytes for s in cache.stores(tmp_path)]
    assert sizes[0] > sizes[1]
    assert [s.request for s in cache.prune(tmp_path, max_gb=0.99 * cache.total(tmp_path) / 1e9)] == [request.digest]
    assert len(segments.names(folder)) == 2
    assert_holds(FrameStore(folder, recipe, some), data[3:6])
    assert [s.state for s in cache.stores(tmp_path)] == ["complete"]


def test_what_no_request_needs_goes_first(tmp_path):
    (one, _, request), (other, _, _) = make_stores(tmp_path, 2)
    (one / "requests" / request.digest).unlink()
    os.utime(one)  # used last
    listed = cache.stores(tmp_path)
    assert {s.folder: s.state for s in listed} == {one: "not requested", other: "complete"}
    assert [s.folder for s in cache.prune(tmp_path, max_gb=None)] == [one]
    assert other.exists()


def test_a_claim_survives_pruning(tmp_path):
    data = clips(8)
    folder, recipe, _ = build(tmp_path, data[:4])
    writer = begin(folder, recipe, data[4:], keys(4, 4))
    assert len(cache.prune(tmp_path, max_gb=0)) == 1
    for clip in data[4:]:
        writer.add(clip)
    writer.commit(1.0)
    assert_holds(FrameStore(folder, recipe, Request("rest", keys(4, 4))), data[4:])


def test_opening_a_store_makes_it_the_most_recently_used(tmp_path):
    made = make_stores(tmp_path)
    FrameStore(*made[1])
    assert [s.folder for s in cache.stores(tmp_path)] == [made[i][0] for i in (0, 2, 3, 1)]


def test_a_half_dropped_store_has_nothing_wrong(tmp_path, monkeypatch):
    data = clips()
    folder, recipe, request = build(tmp_path, data)
    monkeypatch.setattr(cache, "segments", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))  # killed right here
    with pytest.raises(KeyboardInterrupt):
        cache.drop(folder, [request.digest])
    monkeypatch.undo()
    assert [s.state for s in cache.stores(tmp_path)] == ["not requested"]
    assert_holds(FrameStore(folder, recipe, request), data)
    assert cache.drop(folder, [request.digest])
    assert not folder.exists()


def test_the_list_is_a_line_per_request(tmp_path):
    folder, recipe, request = build(tmp_path, clips())
    os.utime(folder / "requests" / request.digest, (1, 1))
    Request("compare23, 5.5 s, pad=none, crop=start", keys(30)).hold(folder, recipe).close()
    head, complete, partial = cache.list_text(cache.stores(tmp_path)).splitlines()
    assert head.startswith("recipe")
    for word in (recipe.hash, "fake", "last", "made up", "float16", "float32", "23", "1970-01-01"):
        assert word in complete
    assert complete.endswith("complete")
    assert "compare23, 5.5 s, pad=none, crop=start" in partial
    assert partial.endswith("partial")


def test_full_disk_is_said_before_starting(tmp_path, monkeypatch):
    folder = store_folder(tmp_path, RECIPE)
    folder.mkdir(parents=True)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: Usage(10**12, 0, 5 * 10**9))
    cache.make_room(folder, 9 * 10**9, 5 * 10**9, None)
    with pytest.raises(EmoshareError, match=r"need 5\.1 GB more and 5 GB are free.*paths\.cache.*prune.*float16"):
        cache.make_room(folder, 51 * 10**8, 51 * 10**8, None)


def test_budget_is_kept_before_starting(tmp_path):
    folders = [folder for folder, _, _ in make_stores(tmp_path)]
    new = store_folder(tmp_path, RECIPE)
    cache.make_room(new, 10**6, 10**6, 0.0032)
    assert [f.exists() for f in folders] == [False, False, True, True]
    with pytest.raises(EmoshareError, match=r"cache\.max_gb=0\.5: these frames alone take 0\.6 GB"):
        cache.make_room(new, 6 * 10**8, 6 * 10**8, 0.5)
    assert [f.exists() for f in folders] == [False, False, True, True]


def test_a_budget_that_other_runs_hold_is_said(tmp_path, caplog):
    made = make_stores(tmp_path)
    used = [FrameStore(*one) for one in made]
    new = store_folder(tmp_path, RECIPE)
    cache.make_room(new, 10**6, 10**6, 0.1)
    assert caplog.text == ""
    cache.make_room(new, 10**6, 10**6, 0.0022)
    assert re.search(r"max_gb=0\.0022 is exceeded: 0\.005\d* GB with these frames, the rest is in use", caplog.text)
    assert all(folder.exists() for folder, _, _ in made)
    del used


def test_locks_are_on_files_that_can_be_read_and_written(tmp_path, monkeypatch):
    """As NFS wants them for a shared and an exclusive one."""
    modes, lock = [], fcntl.flock
    monkeypatch.setattr(
        locks.fcntl, "flock",
        lambda file, how: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE) or lock(file, how),
    )  # fmt: skip
    (tmp_path / "x").touch()
    with locks.alone(tmp_path / "folder"), locks.share(tmp_path / "x"):
        assert not locks.is_free(tmp_path / "x")
    writer = begin(tmp_path / "store", RECIPE, clips(2), keys(2))
    writer.abandon()
    assert modes == [os.O_RDWR] * 5


def test_a_damaged_recipe_spoils_neither_the_list_nor_a_budget(tmp_path):
    folders = [folder for folder, _, _ in make_stores(tmp_path, 2)]
    (folders[0] / "recipe.json").write_text('{"corpus"')
    assert [s.recipe == {} for s in cache.stores(tmp_path)] == [True, False]
    assert "?" in cache.list_text(cache.stores(tmp_path)).splitlines()[1]
    cache.make_room(store_folder(tmp_path, RECIPE), 10**6, 10**6, 0.0022)
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_store_that_another_process_drops_meanwhile_is_not_listed(tmp_path, monkeypatch):
    (first, _, _), (second, _, _) = make_stores(tmp_path, 2)
    read = cache.read_json
    monkeypatch.setattr(cache, "read_json", lambda *a: shutil.rmtree(first, ignore_errors=True) or read(*a))
    assert [s.folder for s in cache.stores(tmp_path)] == [second]


def test_the_size_of_a_cache_that_others_write_and_prune(tmp_path):
    folder, done = tmp_path / "frames" / ("0" * 16) / "segments", threading.Event()
    folder.mkdir(parents=True)
    (folder / "kept").write_bytes(bytes(4096))

    def change() -> None:
        while not done.is_set():
            for number in range(50):
                (folder / f"{number}.part").touch()
                (folder / f"{number}.part").rename(folder / str(number))
            (tmp_path / "frames/1/requests").mkdir(parents=True)
            (tmp_path / "frames/1/requests/x").touch()
            shutil.rmtree(tmp_path / "frames/1")
            for number in range(50):
                (folder / str(number)).unlink()

    other = threading.Thread(target=change)
    other.start()
    try:
        assert {cache.on_disk(tmp_path) for _ in range(300)} == {4096}
    finally:
        done.set()
        other.join()


def test_the_command_line_says_what_was_repaired(tmp_path, emoshare):
    folder, recipe, request = build(tmp_path, clips())
    used = FrameStore(folder, recipe, request)
    change_last_byte(folder / "segments" / segments.names(folder)[0])
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert f"{folder}: 1 damaged segment; in use: verify again after its runs" in run.out
    assert len(segments.names(folder)) == 6
    del used
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert "1 damaged segment; removed, the next run that needs its clips computes them again" in run.out
    assert len(segments.names(folder)) == 5
    assert emoshare("cache", "verify", "--cache", str(tmp_path)).status == 0


def test_verifying_goes_on_after_what_cannot_be_read(tmp_path, emoshare, monkeypatch):
    (first, _, _), (second, _, _) = make_stores(tmp_path, 2)
    change_last_byte(next((second / "segments").iterdir()))
    verify = cache.verify

    def broken(folder):
        if folder == first:
            raise OSError(5, "Input/output error", str(folder))
        return verify(folder)

    monkeypatch.setattr(cache, "verify", broken)
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert f"{second}: 1 damaged segment" in run.out
    assert run.err.count("\n") == 1
    assert "Input/output error" in run.err


def test_full_disk_under_way_is_one_clear_line_and_other_errors_pass(tmp_path):
    with pytest.raises(EmoshareError, match=r"No space left.*paths\.cache.*goes on"), cache.full_disk(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), cache.full_disk(tmp_path / "x"):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("budget", ["-1", "nan"])
def test_a_budget_that_is_none_removes_nothing(emoshare, tmp_path, budget):
    made = make_stores(tmp_path / "cache")
    run = emoshare("cache", "prune", "--max-gb", budget)
    assert run.status == 1
    assert run.err == f"emoshare: --max-gb={budget}: must be 0 (remove all that is not in use) or more\n"
    assert all(folder.exists() for folder, _, _ in made)


def test_pruning_follows_no_link_out_of_the_cache(tmp_path):
    outside, _, _ = make_stores(tmp_path / "elsewhere", 1)[0]
    inside, _, request = make_stores(tmp_path / "cache", 1)[0]
    link = inside.parent / ("0" * 16)
    link.symlink_to(outside, target_is_directory=True)
    (inside / "deep").symlink_to(outside, target_is_directory=True)
    assert [s.folder for s in cache.stores(tmp_path / "cache")] == [inside]
    assert [s.folder for s in cache.prune(tmp_path / "cache", max_gb=0)] == [inside]
    assert not cache.drop(link, [request.digest])
    assert not inside.exists()
    assert len(segments.names(outside)) == 1
    assert cache.verify(outside) == []


@pytest.fixture
def protected():
    """A folder, and a function after which nothing in it can be written by this process, even if it was root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def protect() -> None:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            if user == 0:
                os.seteuid(65534)

        yield folder, protect
        os.seteuid(user)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


def test_a_cache_that_can_only_be_read_can_be_read(protected):
    root, protect = protected
    data = clips()
    folder, recipe, request = build(root, data)
    Path(f"{folder}.lock").unlink()  # as if it had been copied here
    protect()
    with pytest.raises(PermissionError):
        (folder / "x").touch()
    assert_holds(FrameStore(folder, recipe, request), data)
    assert_holds(FrameStore(folder, recipe, Request("never asked for before", keys(5))), data[:5])
    [listed] = cache.stores(root)
    assert (listed.state, listed.clips) == ("complete", 23)
    assert cache.verify(folder) == []
    other = replace(recipe, compute="bfloat16")
    with pytest.raises(EmoshareError, match="not all of these frames are stored"):
        FrameStore(store_folder(root, other), other, request)
