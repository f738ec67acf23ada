"""The frame store against plain arrays, and against everything that can happen to a disk."""

import functools
import os
import pickle
import subprocess
import sys
import textwrap
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored import RECIPE, WIDTH, assert_holds, begin, build, clips, fill, keys

from emoshare.core.errors import EmoshareError
from emoshare.store import cache, frames, segments
from emoshare.store.frames import FrameStore, Index, Request, store_folder
from emoshare.store.recipe import sample_key
from emoshare.store.segments import claimed_keys, read_segment


@pytest.mark.parametrize("equal", [True, False])
def test_gather_equals_a_plain_loop(tmp_path, equal):
    data = clips(equal=equal)
    store = FrameStore(*build(tmp_path, data))
    rows = np.array([22, 0, 7, 7, 13])
    longest = max(len(data[row]) for row in rows)
    expected = np.zeros((5, longest, WIDTH), np.float16)
    for place, row in enumerate(rows):
        expected[place, : len(data[row])] = data[row]
    batch, lengths = store.arrays(rows)
    np.testing.assert_array_equal(batch, expected)
    assert lengths.tolist() == [len(data[row]) for row in rows]
    assert batch.dtype == np.float16
    assert len(store.lengths) == 23
    assert store.recipe.width == WIDTH


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", np.uint16), ("float32", np.float32)])
def test_other_precisions(tmp_path, precision, dtype):
    data = [(clip * 100).astype(dtype) for clip in clips()]
    assert_holds(FrameStore(*build(tmp_path, data, precision=precision)), data)


def test_a_request_finds_clips_of_any_order_and_any_extraction(tmp_path):
    data = clips()
    folder, recipe, _ = build(tmp_path, data[:10])
    fill(folder, recipe, data[10:], first=10)
    names = keys(23)
    order = [22, 3, 3, 11, 0]
    store = FrameStore(folder, recipe, Request("another", [names[i] for i in order]))
    assert_holds(store, [data[i] for i in order])
    assert_holds(pickle.loads(pickle.dumps(store)), [data[i] for i in order])  # as a loader process gets it


def test_what_is_noted_of_a_request_is_a_help_and_no_more(tmp_path):
    data = clips(12)
    folder, recipe, request = build(tmp_path, data)
    few = Request("few", keys(3, first=5))
    FrameStore(folder, recipe, few)
    note = folder / "requests" / f"{few.digest}.segments"
    assert len(note.read_text().split()) == 1
    assert len(Index(folder, recipe, few).places) == 4  # of that segment alone
    for content in ("gone", "\0"):
        note.write_text(content)
        assert_holds(FrameStore(folder, recipe, few), data[5:8])
    assert len(Index(folder, recipe, request).places) == 12


def test_a_damaged_segment_of_other_clips_stops_no_request_that_was_opened_before(tmp_path):
    data = clips(12)
    folder, recipe, _ = build(tmp_path, data)
    few = Request("few", keys(3, first=5))
    kept = FrameStore(folder, recipe, few).request.segment_names(folder)
    other = next(path for path in (folder / "segments").iterdir() if path.name not in kept)
    other.write_bytes(other.read_bytes()[:10])
    assert_holds(FrameStore(folder, recipe, few), data[5:8])
    with pytest.raises(EmoshareError, match=f"{other.name}: damaged"):
        FrameStore(folder, recipe, Request("all", keys(12)))


def test_a_damaged_request_is_written_again(tmp_path):
    data = clips(8)
    folder, recipe, request = build(tmp_path, data)
    os.truncate(folder / "requests" / request.digest, 50)
    store = FrameStore(folder, recipe, request)
    cache.drop(folder)  # deletes what no request needs
    assert_holds(FrameStore(folder, recipe, request), data)
    assert len(store.lengths) == 8


def test_recipe_hash_covers_every_field():
    changes = [
        {"precision": "bfloat16"}, {"backbone": {**RECIPE.backbone, "weights": "y"}}, {"compute": "bfloat16"},
        {"version": 4},
    ]  # fmt: skip
    hashes = {RECIPE.hash, *(replace(RECIPE, **change).hash for change in changes)}
    assert len(hashes) == len(changes) + 1
    assert all(len(h) == 16 and set(h) <= set("0123456789abcdef") for h in hashes)
    assert replace(RECIPE, backbone=dict(reversed(RECIPE.backbone.items()))).hash == RECIPE.hash


def test_hashes_are_pinned():
    """Others would lose all frames that users have stored."""
    assert RECIPE.hash == "829a3d9b3177ed4a"
    assert sample_key(bytes(32), 0, 46_400, 88_000).hex() == "1e4d62d9a3ad1b13df42aaac607e825d"


def test_a_key_covers_all_that_the_backbone_sees():
    one = (bytes(32), 1, 2, 3)
    others = [
        (b"x" * 32, 1, 2, 3),
        (bytes(32), 0, 2, 3),
        (bytes(32), 1, 0, 3),
        (bytes(32), 1, 2, 0),
        (bytes(32), 12, 3, 0),
    ]
    found = {sample_key(*cut) for cut in [one, *others]}
    assert len(found) == 6
    assert {len(key) for key in found} == {16}


def test_weighted_layers_store_all_hidden_states():
    assert replace(RECIPE, backbone={**RECIPE.backbone, "layer": "weighted"}).width == 3 * WIDTH


def test_what_is_not_whole_does_not_count(tmp_path):
    data = clips()
    folder, recipe, request = build(tmp_path, data[:4])
    writer = begin(folder, recipe, data[4:8], keys(4, 4))
    assert sorted(claimed_keys(folder)) == sorted(keys(4, 4))
    for clip in data[4:7]:
        writer.add(clip)
    with pytest.raises(RuntimeError, match="3 of 4 clips"):
        writer.commit(1.0)
    assert len(Index(folder, recipe, request).places) == 4
    with pytest.raises(EmoshareError, match="not all of these frames are stored"):
        FrameStore(folder, recipe, Request("more", keys(8)))
    writer._file.close()  # its process dies
    assert len(list((folder / "segments").glob("*.part"))) == 1
    assert list(claimed_keys(folder)) == []
    assert not list((folder / "segments").glob("*.part"))
    assert_holds(FrameStore(folder, recipe, request), data[:4])


def test_an_abandoned_claim_is_free(tmp_path):
    folder, recipe, _ = build(tmp_path, clips(4))
    writer = begin(folder, recipe, clips(8)[4:], keys(4, 4))
    writer.abandon()
    writer.abandon()
    assert list(claimed_keys(folder)) == []
    assert len(list((folder / "segments").iterdir())) == 1


def test_a_head_that_is_torn_claims_nothing(tmp_path):
    folder, recipe, _ = build(tmp_path, clips(4))
    writer = begin(folder, recipe, clips(8)[4:], keys(4, 4))
    path = Path(f"{writer.path}.part")
    whole = path.read_bytes()
    for size in range(len(whole)):
        os.truncate(path, size)
        assert list(claimed_keys(folder)) == []
    writer.abandon()


def test_writer_refuses_frames_of_another_shape_or_type(tmp_path):
    data = clips()
    writer = begin(store_folder(tmp_path, RECIPE), RECIPE, data, keys(23))
    for wrong in (data[0][:, :-1], np.concatenate([data[0], data[0]]), data[0].astype(np.float32)):
        with pytest.raises(ValueError, match="clip 0 takes"):
            writer.add(wrong)
    writer.abandon()


def test_another_recipe_in_the_folder_is_an_error(tmp_path):
    folder, recipe, request = build(tmp_path, clips())
    other = replace(recipe, compute="bfloat16")
    with pytest.raises(EmoshareError, match=r"another recipe \(compute differ"):
        FrameStore(folder, other, request)
    (folder / "recipe.json").write_text('{"corpus"')
    with pytest.raises(EmoshareError, match=r"recipe\.json: not readable"):
        FrameStore(folder, recipe, request)


def test_a_segment_of_another_width_is_an_error(tmp_path):
    folder, recipe, request = build(tmp_path, clips())
    other = build(tmp_path / "other", [np.ones((2, 3), np.float16)], backbone={**RECIPE.backbone, "dim": 3})[0]
    (segment,) = (other / "segments").iterdir()
    segment.rename(folder / "segments" / segment.name)
    with pytest.raises(EmoshareError, match=f"{segment.name}: of another recipe"):
        FrameStore(folder, recipe, request)


@pytest.mark.parametrize("size", [0, 10, 100, -1])
def test_a_truncated_segment_is_an_error_and_not_a_bus_error(tmp_path, size):
    folder, recipe, request = build(tmp_path, clips())
    path = folder / "segments" / segments.names(folder)[2]
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    with pytest.raises(EmoshareError, match=f"{path}: damaged; delete it, and the next run computes its clips again"):
        FrameStore(folder, recipe, request)
    assert cache.verify(folder) == [path]


def test_a_changed_byte_in_the_head_is_an_error(tmp_path):
    folder, recipe, request = build(tmp_path, clips(4))
    (path,) = (folder / "segments").iterdir()
    whole = path.read_bytes()
    for at in range(read_segment(path).offset):
        if not 28 <= at < 32:  # bytes that say nothing
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(EmoshareError, match=r"damaged|another recipe"):
                FrameStore(folder, recipe, request)


def flip(path: Path, at: int) -> None:
    """Change one bit of a file, as a disk that fails does: its time stays."""
    content, found = bytearray(path.read_bytes()), path.stat()
    content[at] ^= 16
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("place", ["first", "middle", "last", "checksum"])
def test_a_changed_bit_in_the_frames_is_an_error_at_their_first_use(tmp_path, place):
    folder, recipe, request = build(tmp_path, clips())
    path = folder / "segments" / segments.names(folder)[1]
    segment, size = read_segment(path), path.stat().st_size
    end = size - segments.FOOT.size
    flip(
        path, {"first": segment.offset, "middle": (segment.offset + end) // 2, "last": end - 1, "checksum": end}[place]
    )
    with pytest.raises(EmoshareError, match=f"{path}: damaged; delete it.*cache verify"):
        FrameStore(folder, recipe, request)
    assert cache.verify(folder) == [path]
    assert cache.repair(folder, [path])
    with pytest.raises(EmoshareError, match="not all of these frames are stored"):  # and are computed again
        FrameStore(folder, recipe, request)


def test_a_process_verifies_a_segment_once(tmp_path, monkeypatch):
    folder, recipe, request = build(tmp_path, clips())
    read = []
    monkeypatch.setattr(segments, "is_whole", lambda segment: bool(read.append(segment.path)) or True)
    FrameStore(folder, recipe, request)
    assert sorted(read) == sorted((folder / "segments").iterdir())
    FrameStore(folder, recipe, request)
    FrameStore(folder, recipe, Request("few", keys(3)))
    assert len(read) == len(set(read))


def test_a_store_of_many_segments_keeps_few_files_open(tmp_path):
    data = clips(300)
    folder, recipe = store_folder(tmp_path, RECIPE), RECIPE
    request = fill(folder, recipe, data, chunk=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = FrameStore(folder, recipe, request)
    assert_holds(store, data)
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= frames.OPEN + 1
    batch, lengths = store.arrays(np.arange(300))  # more segments in a batch than are kept open
    assert all((batch[row, :n] == data[row]).all() for row, n in enumerate(lengths.tolist()))
    del store
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # without a wait for the garbage collector


def test_threads_may_read_while_files_change_places(tmp_path):
    data = clips(40)
    folder, recipe = store_folder(tmp_path, RECIPE), RECIPE
    store = FrameStore(folder, recipe, fill(folder, recipe, data, chunk=1))
    store._file = functools.lru_cache(2)(frames.OpenFile)
    with ThreadPoolExecutor(8) as pool:
        rows = np.random.default_rng(0).integers(0, 40, (400, 3))
        for row, (batch, lengths) in zip(rows, pool.map(store.arrays, rows), strict=True):
            assert all((batch[i, :n] == data[clip]).all() for i, (clip, n) in enumerate(zip(row, lengths, strict=True)))


def test_a_segment_that_is_gone_is_named(tmp_path):
    folder, recipe, request = build(tmp_path, clips(4))
    store = FrameStore(folder, recipe, request)
    (path,) = (folder / "segments").iterdir()
    path.unlink()
    with pytest.raises(EmoshareError, match=f"{path}: another process has pruned it; run the command again"):
        store.arrays([0])


def test_cost_is_that_of_the_clips_asked_for(tmp_path):
    data = clips(12)
    folder, recipe, request = build(tmp_path, data)  # three segments, 2 s each
    cost = FrameStore(folder, recipe, request).cost
    assert cost["seconds"] == pytest.approx(6.0)
    assert cost["audio_seconds"] == pytest.approx(12.0)
    assert cost["realtime"] == pytest.approx(2.0)
    assert cost["bytes"] == sum(d.nbytes for d in data)
    names = keys(12)
    some = FrameStore(folder, recipe, Request("some", [names[1], names[5], names[5]])).cost
    assert some["seconds"] == pytest.approx(1.0)  # half a second for each of a segment's four clips
    assert some["bytes"] == data[1].nbytes + data[5].nbytes
    assert (some["clips"], some["audio_seconds"]) == (3, pytest.approx(2.0))


def test_memory_stays_flat_with_a_store_larger_than_memory(tmp_path):
    """A gigabyte of frames, read whole by a process that may have 64 MB of its own."""
    recipe = replace(RECIPE, backbone={**RECIPE.backbone, "dim": 1024})
    folder, holes = store_folder(tmp_path, recipe), np.empty((274, 1024), np.float16)
    names, zeros = keys(2000), zlib.crc32(bytes(125 * holes.nbytes))
    request = Request("large", names)
    request.hold(folder, recipe)
    for start in range(0, 2000, 125):
        writer = begin(folder, recipe, [holes] * 125, names[start : start + 125])
        os.lseek(writer._file.fileno(), 125 * holes.nbytes, os.SEEK_CUR)  # a file of holes: quick to make
        writer.count, writer._crc = 125, zeros
        writer.commit(1.0)
    code = f"""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from emoshare.store.frames import FrameStore, Request
        from emoshare.store.recipe import Recipe
        folder = Path({str(folder)!r})
        request = Request.read(next((folder / "requests").iterdir()))
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = int(status["VmData"].split()[0]) * 1024 + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        store = FrameStore(folder, Recipe(**{recipe.to_dict()!r}), request)
        order = np.random.default_rng(0).permutation(len(store.lengths))
        assert sum(store.arrays(rows)[0].nbytes for rows in np.split(order, 250)) > 1.1e9
        try:
            np.fromfile(next((folder / "segments").iterdir()), np.float16)
        except MemoryError:
            sys.exit(7)  # the limit does hold
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.returncode == 7, run.stderr


def test_the_same_weights_under_another_name_are_one_recipe(tmp_path: Path) -> None:
    moved = replace(RECIPE, backbone={**RECIPE.backbone, "path": "/elsewhere", "name": "other"})
    assert moved.hash == RECIPE.hash
    other = replace(RECIPE, backbone={**RECIPE.backbone, "weights": "other"})
    assert other.hash != RECIPE.hash
