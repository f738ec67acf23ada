"""The frame store against plain arrays, and against everything that can happen to a disk."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emoshare.core.errors import EmoshareError
from emoshare.store import cache, frames, locks
from emoshare.store.frames import FrameStore, Layout, Writer, find, store_folder
from emoshare.store.locks import computing
from emoshare.store.recipe import Recipe

WIDTH = 6
RECIPE = Recipe(
    corpus="c0ffee",
    clips=23,
    window={"seconds": 0.5, "crop": "start", "pad": "none"},
    backbone={"name": "fake", "dim": WIDTH, "layers": 2, "layer": "last"},
    precision="float16",
    compute="float32",
    engine="torch",
)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(frames, "CHUNK_ROWS", 4)


def clips(count: int = 23, equal: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(9 if equal else rng.integers(1, 12), WIDTH)).astype(np.float16) for _ in range(count)]


def fill(folder: Path, recipe: Recipe, data: list[np.ndarray], stop_after: int | None = None) -> None:
    """Write clips as an extraction does; stop_after so many leaves the store as a killed process would."""
    writer = Writer(folder, recipe, np.array([len(d) for d in data]))
    for slot in writer.pending()[:stop_after]:
        writer.add(slot, data[writer.layout.order[slot]])
    if stop_after is None:
        writer.finish(audio_seconds=10.0)
    writer.close()


def build(path: Path, data: list[np.ndarray], **changes: object) -> tuple[Path, Recipe]:
    recipe = replace(RECIPE, **changes)
    folder = store_folder(path, recipe)
    fill(folder, recipe, data)
    return folder, recipe


def assert_holds(store: FrameStore, data: list[np.ndarray]) -> None:
    for row, expected in enumerate(data):
        batch, lengths = store.gather([row])
        assert lengths.tolist() == [len(expected)]
        np.testing.assert_array_equal(batch[0], expected)


@pytest.mark.parametrize("equal", [True, False])
def test_gather_equals_a_plain_loop(tmp_path, equal):
    data = clips(equal=equal)
    store = FrameStore.open(*build(tmp_path, data))
    rows = np.array([22, 0, 7, 7, 13])
    longest = max(len(data[row]) for row in rows)
    expected = np.zeros((5, longest, WIDTH), np.float16)
    for place, row in enumerate(rows):
        expected[place, : len(data[row])] = data[row]
    batch, lengths = store.gather(rows)
    np.testing.assert_array_equal(batch, expected)
    assert lengths.tolist() == [len(data[row]) for row in rows]
    assert batch.dtype == np.float16
    assert store.rows == 23
    assert store.width == WIDTH


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", np.uint16), ("float32", np.float32)])
def test_other_precisions(tmp_path, precision, dtype):
    data = [(clip * 100).astype(dtype) for clip in clips()]
    assert_holds(FrameStore.open(*build(tmp_path, data, precision=precision)), data)


def test_storage_is_in_order_of_length_and_of_rows_where_equal():
    layout = Layout(np.array([5, 2, 9, 2]))
    assert layout.order.tolist() == [1, 3, 0, 2]
    assert layout.starts.tolist() == [0, 2, 4, 9, 18]
    assert layout.offsets.tolist() == [4, 0, 9, 2]
    assert Layout(np.full(5, 7)).order.tolist() == [0, 1, 2, 3, 4]


def test_recipe_hash_covers_every_field():
    changes = [
        {"corpus": "x"}, {"clips": 1}, {"window": {**RECIPE.window, "pad": "zeros"}}, {"precision": "bfloat16"},
        {"backbone": {**RECIPE.backbone, "weights": "y"}}, {"compute": "bfloat16"}, {"engine": "openvino"},
        {"version": 2},
    ]  # fmt: skip
    hashes = {RECIPE.hash, *(replace(RECIPE, **change).hash for change in changes)}
    assert len(hashes) == len(changes) + 1
    assert all(len(h) == 16 and set(h) <= set("0123456789abcdef") for h in hashes)
    assert replace(RECIPE, window=dict(reversed(RECIPE.window.items()))).hash == RECIPE.hash


def test_the_hash_of_a_recipe_is_pinned():
    """Another would lose all frames that users have stored."""
    assert RECIPE.hash == "d556d5ec641943a6"


def test_weighted_layers_store_all_hidden_states():
    assert replace(RECIPE, backbone={**RECIPE.backbone, "layer": "weighted"}).width == 3 * WIDTH


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("stop", [0, 1, 4, 5, 11, 22])
def test_resume_recomputes_incomplete_chunks_alone(tmp_path, stop, equal):
    data, folder = clips(equal=equal), store_folder(tmp_path, RECIPE)
    fill(folder, RECIPE, data, stop_after=stop)
    assert find(folder, RECIPE) is None
    with pytest.raises(EmoshareError, match="no complete"):
        FrameStore.open(folder, RECIPE)
    writer = Writer(folder, RECIPE, np.array([len(d) for d in data]))
    assert writer.pending() == list(range(stop // 4 * 4, 23))
    writer.close()
    fill(folder, RECIPE, data)
    assert_holds(FrameStore.open(folder, RECIPE), data)
    assert cache.verify(folder) == []


def test_a_torn_last_journal_line_does_not_count(tmp_path):
    data, folder = clips(), store_folder(tmp_path, RECIPE)
    fill(folder, RECIPE, data, stop_after=12)
    journal = folder / "chunks.jsonl"
    whole = journal.read_bytes()
    assert whole.count(b"\n") == 3
    for cut in range(1, len(whole.splitlines()[2]) + 1):
        journal.write_bytes(whole[:-cut])
        writer = Writer(folder, RECIPE, np.array([len(d) for d in data]))
        assert writer.pending()[0] == (12 if cut == 1 else 8)
        writer.close()
    fill(folder, RECIPE, data)
    assert sorted(frames.read_journal(folder)) == list(range(6))
    assert_holds(FrameStore.open(folder, RECIPE), data)


@pytest.mark.parametrize("lost", ["frames.bin", "recipe.json", "lengths.npy"])
def test_the_journal_does_not_count_without_its_data(tmp_path, lost):
    data, folder = clips(), store_folder(tmp_path, RECIPE)
    fill(folder, RECIPE, data, stop_after=12)
    (folder / lost).unlink()
    writer = Writer(folder, RECIPE, np.array([len(d) for d in data]))
    assert len(writer.pending()) == 23
    writer.close()


def test_after_a_failed_write_the_rest_of_its_chunk_is_refused(tmp_path, monkeypatch):
    data, folder = clips(equal=True), store_folder(tmp_path, RECIPE)
    writer = Writer(folder, RECIPE, np.array([len(d) for d in data]))
    writer.add(0, data[0])
    with monkeypatch.context() as patch:
        patch.setattr(frames, "write_all", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            writer.add(1, data[1])
    for slot in (2, 3):
        with pytest.raises(ValueError, match="before slot 1"):
            writer.add(slot, data[slot])
    for slot in range(4, 8):
        writer.add(slot, data[slot])
    assert list(writer.done) == [1]
    with pytest.raises(RuntimeError, match="1 of 6 chunks"):
        writer.finish(1.0)
    writer.close()


def test_writer_refuses_frames_of_another_shape_or_type(tmp_path):
    data = clips()
    writer = Writer(store_folder(tmp_path, RECIPE), RECIPE, np.array([len(d) for d in data]))
    first = data[writer.layout.order[0]]
    for wrong in (first[:, :-1], np.concatenate([first, first]), first.astype(np.float32)):
        with pytest.raises(ValueError, match="slot 0 takes"):
            writer.add(0, wrong)
    writer.close()


def test_another_recipe_in_the_folder_is_an_error(tmp_path):
    folder, recipe = build(tmp_path, clips())
    other = replace(recipe, engine="openvino")
    for action in (lambda: find(folder, other), lambda: Writer(folder, other, np.ones(23, np.int64))):
        with pytest.raises(EmoshareError, match=r"another recipe \(engine differ"):
            action()
    (folder / "recipe.json").write_text('{"corpus"')
    with pytest.raises(EmoshareError, match=r"recipe\.json: not readable"):
        find(folder, recipe)


def test_truncated_data_is_an_error_and_not_a_bus_error(tmp_path):
    folder, recipe = build(tmp_path, clips())
    os.truncate(folder / "frames.bin", 100)
    with pytest.raises(EmoshareError, match="not the size"):
        find(folder, recipe)


def test_cost_adds_up_over_interrupted_attempts(tmp_path):
    data, folder = clips(), store_folder(tmp_path, RECIPE)
    fill(folder, RECIPE, data, stop_after=12)
    entries = [json.loads(line) for line in (folder / "chunks.jsonl").read_text().splitlines()]
    for entry in entries:
        entry["seconds"] = 100.0
    (folder / "chunks.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    fill(folder, RECIPE, data)
    cost = FrameStore.open(folder, RECIPE).cost
    assert 300 <= cost["seconds"] < 310
    assert cost["realtime"] == pytest.approx(10.0 / cost["seconds"])
    assert cost["bytes"] == sum(d.nbytes for d in data)


def test_memory_stays_flat_with_a_store_larger_than_memory(tmp_path):
    """A gigabyte of frames, read whole by a process that may have 64 MB of its own."""
    recipe = replace(RECIPE, backbone={**RECIPE.backbone, "dim": 1024})
    folder = store_folder(tmp_path, recipe)
    writer = Writer(folder, recipe, np.full(2000, 274))
    writer.done = {chunk: {"seconds": 1.0} for chunk in range(len(writer.chunks))}  # a file of holes: quick to make
    writer.finish(1.0)
    writer.close()
    code = f"""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from emoshare.store.frames import FrameStore
        from emoshare.store.recipe import Recipe
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = int(status["VmData"].split()[0]) * 1024 + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        store = FrameStore.open(Path({str(folder)!r}), Recipe(**{recipe.to_dict()!r}))
        order = np.random.default_rng(0).permutation(store.rows)
        assert sum(store.gather(rows)[0].nbytes for rows in np.split(order, 250)) > 1.1e9
        try:
            np.fromfile({str(folder / "frames.bin")!r}, np.float16)
        except MemoryError:
            sys.exit(7)  # the limit does hold
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.returncode == 7, run.stderr


# All stores of a cache


@pytest.mark.parametrize("equal", [True, False])
def test_verify_finds_a_changed_byte_and_repair_recomputes_its_chunk(tmp_path, equal):
    data = clips(equal=equal)
    folder, recipe = build(tmp_path, data)
    assert cache.verify(folder) == []
    with (folder / "frames.bin").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert cache.verify(folder) == [5]
    assert cache.repair(folder, [5])
    writer = Writer(folder, recipe, np.array([len(d) for d in data]))
    assert writer.pending() == [20, 21, 22]
    writer.close()
    fill(folder, recipe, data)
    assert_holds(FrameStore.open(folder, recipe), data)
    os.truncate(folder / "frames.bin", (folder / "frames.bin").stat().st_size // 2 // (2 * WIDTH) * (2 * WIDTH))
    assert 5 in cache.verify(folder)


def make_stores(tmp_path: Path, count: int = 4) -> list[Path]:
    """Stores of a megabyte, the first used longest ago."""
    data = [np.ones((250_000 // WIDTH, WIDTH), np.float16) for _ in range(2)]
    folders = [build(tmp_path, data, corpus=str(i))[0] for i in range(count)]
    for age, folder in enumerate(folders):
        os.utime(folder / "used", (1000 + age, 1000 + age))
    return folders


def test_prune_takes_the_least_recently_used_and_nothing_in_use(tmp_path):
    folders = make_stores(tmp_path)
    used = FrameStore.open(folders[0], replace(RECIPE, corpus="0"))
    os.utime(folders[0] / "used", (1, 1))  # oldest, but open
    assert [s.busy for s in cache.stores(tmp_path)] == [True, False, False, False]
    with computing(folders[1]):
        removed = cache.prune(tmp_path, max_gb=0.0022, keep=[folders[2]])
    assert [s.folder for s in removed] == [folders[3]]
    removed = cache.prune(tmp_path, max_gb=0.0022)
    assert [s.folder for s in removed] == [folders[1]]
    assert [s.folder for s in cache.stores(tmp_path)] == [folders[0], folders[2]]
    assert used.gather([0])[0].all()
    del used
    assert len(cache.prune(tmp_path, max_gb=0)) == 2
    assert cache.stores(tmp_path) == []


def test_opening_a_store_makes_it_the_most_recently_used(tmp_path):
    folders = make_stores(tmp_path)
    FrameStore.open(folders[1], replace(RECIPE, corpus="1"))
    assert [s.folder for s in cache.stores(tmp_path)] == [folders[i] for i in (0, 2, 3, 1)]


def test_partial_stores_are_listed_and_pruned_and_a_half_dropped_one_is_empty(tmp_path, monkeypatch):
    data, folder = clips(), store_folder(tmp_path, RECIPE)
    fill(folder, RECIPE, data, stop_after=12)
    store_folder(tmp_path, replace(RECIPE, clips=1)).mkdir()  # killed before its recipe was written
    assert [s.complete for s in cache.stores(tmp_path)] == [False, False]
    fill(folder, RECIPE, data)
    monkeypatch.setattr(cache.shutil, "rmtree", lambda *_, **__: None)  # killed right here
    assert cache.drop(folder)
    assert find(folder, RECIPE) is None
    assert cache.verify(folder) == []
    fill(folder, RECIPE, data)
    assert_holds(FrameStore.open(folder, RECIPE), data)
    monkeypatch.undo()
    assert len(cache.prune(tmp_path, max_gb=0)) == 2


def test_the_list_is_a_line_per_store(tmp_path):
    folder, recipe = build(tmp_path, clips())
    store_folder(tmp_path, replace(RECIPE, clips=1)).mkdir()
    os.utime(folder / "used", (1, 1))
    head, complete, partial = cache.list_text(cache.stores(tmp_path)).splitlines()
    assert head.startswith("recipe")
    for word in (recipe.hash, "fake", "last", "0.5 s, pad=none", "float16", "torch float32", "23", "1970-01-01"):
        assert word in complete
    assert complete.endswith("complete")
    assert partial.endswith("partial")


def test_full_disk_is_said_before_starting(tmp_path, monkeypatch):
    folder = store_folder(tmp_path, RECIPE)
    folder.mkdir(parents=True)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: Usage(10**12, 0, 5 * 10**9))
    cache.make_room(folder, 5 * 10**9, None)
    with pytest.raises(EmoshareError, match=r"need 5\.1 GB more and 5 GB are free.*paths\.cache.*prune.*float16"):
        cache.make_room(folder, 51 * 10**8, None)


def test_budget_is_kept_before_starting(tmp_path):
    folders = make_stores(tmp_path)
    new = store_folder(tmp_path, RECIPE)
    cache.make_room(new, 10**6, 0.0032)
    assert [f.exists() for f in folders] == [False, False, True, True]
    with pytest.raises(EmoshareError, match=r"cache\.max_gb=0\.5: these frames alone take 0\.6 GB"):
        cache.make_room(new, 6 * 10**8, 0.5)
    assert [f.exists() for f in folders] == [False, False, True, True]


def test_a_budget_that_other_runs_hold_is_said(tmp_path, caplog):
    folders = make_stores(tmp_path)
    used = [FrameStore.open(folder, replace(RECIPE, corpus=str(i))) for i, folder in enumerate(folders)]
    cache.make_room(store_folder(tmp_path, RECIPE), 10**6, 0.1)
    assert caplog.text == ""
    cache.make_room(store_folder(tmp_path, RECIPE), 10**6, 0.0022)
    assert re.search(r"max_gb=0\.0022 is exceeded: 0\.005\d* GB with these frames, the rest is in use", caplog.text)
    assert all(folder.exists() for folder in folders)
    del used


def test_locks_are_on_files_that_can_be_read_and_written(tmp_path, monkeypatch):
    """As NFS wants them for a shared and an exclusive one."""
    modes, lock = [], fcntl.flock
    monkeypatch.setattr(
        locks.fcntl, "flock",
        lambda file, how: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE) or lock(file, how),
    )  # fmt: skip
    with locks.share(tmp_path / "x"), locks.exclusive(tmp_path / "x") as free:
        assert not free
    assert modes == [os.O_RDWR] * 2


def test_a_damaged_recipe_spoils_neither_the_list_nor_a_budget(tmp_path):
    folders = make_stores(tmp_path, 2)
    (folders[0] / "recipe.json").write_text('{"corpus"')
    assert [s.recipe == {} for s in cache.stores(tmp_path)] == [True, False]
    assert "?" in cache.list_text(cache.stores(tmp_path)).splitlines()[1]
    cache.make_room(store_folder(tmp_path, RECIPE), 10**6, 0.0022)
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_store_that_another_process_drops_meanwhile_is_not_listed(tmp_path, monkeypatch):
    folders, read = make_stores(tmp_path, 2), cache.read_json
    monkeypatch.setattr(cache, "read_json", lambda *a: shutil.rmtree(folders[0], ignore_errors=True) or read(*a))
    assert [s.folder for s in cache.stores(tmp_path)] == folders[1:]


def test_the_command_line_says_what_was_repaired(tmp_path, emoshare):
    folder, recipe = build(tmp_path, clips())
    with (folder / "frames.bin").open("r+b") as file:
        file.write(b"other")
    used = FrameStore.open(folder, recipe)
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert f"{folder}: 1 damaged chunks; in use: verify again after its runs" in run.out
    assert (folder / "complete").exists()
    del used
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert "1 damaged chunks; the next run that needs them computes them again" in run.out
    assert not (folder / "complete").exists()


def test_converted_models_are_counted(tmp_path, emoshare):
    assert emoshare("cache").out.count("\n") == 1
    for name in ("0123456789abcdef", "fedcba9876543210", ".fedcba9876543210-half"):
        (tmp_path / "cache/openvino" / name).mkdir(parents=True)
        (tmp_path / "cache/openvino" / name / "model.bin").write_bytes(bytes(2 * 10**6))
    for name in ("0123456789abcdef.lock", "00000000000000ff.failed"):
        (tmp_path / "cache/openvino" / name).touch()
    assert emoshare("cache").out.splitlines()[1] == "converted models: 2, 0.004 GB, in cache/openvino; delete any"


def test_full_disk_under_way_is_one_clear_line_and_other_errors_pass(tmp_path):
    with pytest.raises(EmoshareError, match=r"No space left.*paths\.cache.*goes on"), cache.full_disk(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), cache.full_disk(tmp_path / "x"):
        raise PermissionError(13, "Permission denied")


def test_the_same_weights_under_another_name_are_one_recipe(tmp_path: Path) -> None:
    moved = replace(RECIPE, backbone={**RECIPE.backbone, "path": "/elsewhere", "name": "other"})
    assert moved.hash == RECIPE.hash
    other = replace(RECIPE, backbone={**RECIPE.backbone, "weights": "other"})
    assert other.hash != RECIPE.hash


@pytest.mark.parametrize("budget", ["-1", "nan"])
def test_a_budget_that_is_none_removes_nothing(emoshare, tmp_path, budget):
    folders = make_stores(tmp_path / "cache")
    run = emoshare("cache", "prune", "--max-gb", budget)
    assert run.status == 1
    assert run.err == f"emoshare: --max-gb={budget}: must be 0 (remove all that is not in use) or more\n"
    assert all(folder.exists() for folder in folders)


@pytest.mark.parametrize("content", [b"", b"no numbers", b"\x93NUMPY", None])
def test_a_damaged_index_names_itself_and_its_remedy(tmp_path, emoshare, content):
    data = clips()
    folder, recipe = build(tmp_path, data)
    index = folder / "lengths.npy"
    index.write_bytes(index.read_bytes()[:-8] if content is None else content)
    message = rf"{index}: not readable \(.*\); delete {folder} and extract again$"
    for action in (lambda: find(folder, recipe), lambda: cache.verify(folder)):
        with pytest.raises(EmoshareError, match=message):
            action()
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert str(index) in run.err
    (folder / "complete").unlink()
    fill(folder, recipe, data)  # an extraction that goes on writes it again
    assert_holds(FrameStore.open(folder, recipe), data)


def test_verifying_goes_on_after_a_damaged_index(tmp_path, emoshare):
    first, second, third = make_stores(tmp_path, 3)
    (first / "lengths.npy").write_bytes(b"junk")
    (third / "frames.bin").unlink()
    with (second / "frames.bin").open("r+b") as file:
        file.write(b"other")
    run = emoshare("cache", "verify", "--cache", str(tmp_path))
    assert run.status == 1
    assert f"{second}: 1 damaged chunks; the next run that needs them computes them again" in run.out
    assert f"emoshare: {first / 'lengths.npy'}: not readable" in run.err
    assert f"emoshare: {third / 'frames.bin'}" in run.err
    assert run.err.count("\n") == 2


def test_pruning_follows_no_link_out_of_the_cache(tmp_path):
    outside = make_stores(tmp_path / "elsewhere", 1)[0]
    (inside,) = make_stores(tmp_path / "cache", 1)
    link = inside.parent / ("0" * 16)
    link.symlink_to(outside, target_is_directory=True)
    (inside / "deep").symlink_to(outside, target_is_directory=True)
    assert [s.folder for s in cache.stores(tmp_path / "cache")] == [inside]
    assert [s.folder for s in cache.prune(tmp_path / "cache", max_gb=0)] == [inside]
    assert not cache.drop(link)
    assert not inside.exists()
    assert (outside / "complete").exists()
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
    folder, recipe = build(root, data)
    Path(f"{folder}.use").unlink(missing_ok=True)  # as if it had been copied here
    protect()
    with pytest.raises(PermissionError):
        (folder / "x").touch()
    assert_holds(find(folder, recipe), data)
    [listed] = cache.stores(root)
    assert (listed.complete, listed.busy, listed.recipe["clips"]) == (True, False, 23)
    assert cache.verify(folder) == []
    other = replace(recipe, clips=5)
    assert find(store_folder(root, other), other) is None
