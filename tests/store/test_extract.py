"""Extraction: the frames are right whatever happens to batches, memory, disk and processes."""

import hashlib
import json
import logging
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from extraction import FakeExtractor, SlowExtractor, expected, help_run, make_corpus, run
from scipy.io import wavfile

from emoshare.core.errors import EmoshareError, UnusableClips
from emoshare.core.helpers import helping
from emoshare.data.window import Window
from emoshare.store import cache, extract
from emoshare.store.clips import Clips

ZEROS, NONE = Window(0.15, "start", "zeros"), Window(0.15, "start", "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("wav"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(extract, "CHUNK_ROWS", 7)


def assert_right(store, corpus, window, scale=1.0):
    batch, lengths = store.gather(np.arange(len(corpus.files)))
    for row in range(len(corpus.files)):
        wanted = expected(corpus, window, row, scale)
        assert lengths[row] == len(wanted)
        np.testing.assert_array_equal(batch[row, : len(wanted)].numpy(), wanted)
        assert not batch[row, len(wanted) :].any()


@pytest.mark.parametrize("seconds", [44.0, 0.001, 0.2, 1.0])
@pytest.mark.parametrize(("window", "equal"), [(ZEROS, False), (NONE, False), (NONE, True)])
def test_frames_are_right_whatever_the_batch_size(tmp_path, corpus, window, equal, seconds):
    engine = FakeExtractor(masked=window.pad == "none")
    store = run(corpus, window, tmp_path, engine, equal, batch_seconds=seconds)
    assert store.computed
    assert_right(store, corpus, window)
    largest = {44.0: 40, 0.001: 1}.get(seconds)
    if largest and not equal:
        assert max(rows for rows, _ in engine.shapes) == largest
    if seconds in (0.2, 1.0):
        assert max(rows * samples for rows, samples in engine.shapes) <= seconds * 16_000
    heard = [s if window is ZEROS else 400 + max(s - 400, 0) // 320 * 320
             for s in np.minimum(np.round(corpus.seconds * 16_000), 2400)]  # fmt: skip
    assert store.cost["audio_seconds"] == pytest.approx(sum(heard) / 16_000)  # without the padding
    assert store.cost["recipe"] == store.recipe.hash
    assert cache.verify(store.folder) == []


def test_equal_lengths_are_never_mixed(tmp_path, corpus):
    class Equal(FakeExtractor):
        def __call__(self, waves, lengths):
            assert (lengths == waves.shape[1]).all()
            return super().__call__(waves, lengths)

    engine = Equal()
    assert_right(run(corpus, NONE, tmp_path, engine, equal=True), corpus, NONE)
    assert any(rows > 1 for rows, _ in engine.shapes)


def test_second_call_reuses_the_store(tmp_path, corpus):
    first, again = run(corpus, ZEROS, tmp_path), FakeExtractor(masked=False)
    store = run(corpus, ZEROS, tmp_path, again)
    assert not store.computed
    assert store.cost == {**first.cost, "reused": True, "computed": 0}
    assert first.cost["computed"] == first.cost["clips"] == 40
    assert again.shapes == []
    run(corpus, ZEROS, tmp_path, again, precision="float32")
    assert again.shapes


def test_frames_of_a_trained_backbone_are_not_stored(emoshare, tmp_path):
    result = emoshare("extract", "data=demo", "backbone=tiny", "backbone.frozen=false")
    assert result.status == 1
    assert "backbone.frozen=false: frames of a trained backbone are not stored" in result.err
    result = emoshare("extract", "data=demo", "backbone=tiny", "backbone.cache=false")
    assert result.status == 1
    assert "backbone.cache=false: has frames computed anew in each epoch, and extract stores them" in result.err
    assert list(tmp_path.iterdir()) == []


def test_each_job_of_several_tells_its_number_and_the_hours_of_real_audio(emoshare, corpus_root):
    keys = [f"data.root={corpus_root}", "backbone=logmel", "window.pad=zeros", "window.seconds=30,31"]
    result = emoshare("extract", "-m", *keys)
    assert result.status == 0, result.err
    clips = [wavfile.read(path) for path in (corpus_root / "wav").iterdir()]
    hours = sum(len(samples) / rate for rate, samples in clips) / 3600  # a tenth of the windows of 30 s
    lines = [line for line in result.out.splitlines() if "stored" in line]
    for line, start in zip(lines, ("1 of 2  logmel 30 s: stored, ", "2 of 2  logmel 31 s: stored, "), strict=True):
        assert line.startswith(start)
        assert f", {hours:.2f} h of audio, " in line


def test_progress_tells_clips_hours_of_audio_and_speed(tmp_path, corpus, caplog):
    caplog.set_level(logging.DEBUG)
    run(corpus, ZEROS, tmp_path)
    hours = corpus.seconds.sum() / 3600  # of the clips themselves: most of a window of zeros is padding
    last = next(record for record in reversed(caplog.records) if hasattr(record, "step"))
    assert f"frames · extracting: 40/40 clips, {hours:.2f}/{hours:.2f} h of audio, " in last.step.text
    assert last.step.text.endswith(" × real time")
    assert last.step.done == pytest.approx(1)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_stored_precision(tmp_path, corpus, precision):
    store = run(corpus, ZEROS, tmp_path, FakeExtractor(1 / 3, masked=False), precision=precision)
    batch, _ = store.gather(np.array([5]))
    exact = run(corpus, ZEROS, tmp_path, FakeExtractor(1 / 3, masked=False), precision="float32").gather(np.array([5]))[
        0
    ]
    assert batch.dtype == getattr(torch, precision)
    assert torch.equal(batch, exact.to(batch.dtype))


class Limited(FakeExtractor):
    """Has memory for so many clips at once."""

    def __init__(self, rows: int, error: Exception) -> None:
        super().__init__()
        self.rows, self.error = rows, error

    def __call__(self, waves, lengths):
        result = super().__call__(waves, lengths)
        if len(waves) > self.rows:
            raise self.error
        return result


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("not enough memory: you tried to allocate 99 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch(tmp_path, corpus, error):
    engine = Limited(6, error)
    store = run(corpus, NONE, tmp_path, engine, batch_seconds=6)
    assert_right(store, corpus, NONE)
    sizes = [rows for rows, _ in engine.shapes]
    assert sizes[:4] == [40, 20, 10, 5]
    assert sum(rows > 6 for rows in sizes) < 6  # the smaller size is kept


def test_out_of_memory_with_one_clip_names_the_remedies(tmp_path, corpus):
    with pytest.raises(EmoshareError, match=r"max_batch_seconds.*extract\.compute=bfloat16.*window\.seconds"):
        run(corpus, NONE, tmp_path, Limited(0, torch.OutOfMemoryError("out of memory")))


def test_other_errors_of_the_engine_pass_once(tmp_path, corpus):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(corpus, NONE, tmp_path, Limited(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    assert not pool_threads()


def test_clips_that_a_backbone_cannot_take_are_named(tmp_path, corpus):
    class Picky(FakeExtractor):
        def __call__(self, waves, lengths):
            raise UnusableClips([1, 3], "needs a longer one")

    with pytest.raises(EmoshareError, match=r"clip \d+\.wav \(and 1 more\): needs a longer one; take it out"):
        run(corpus, ZEROS, tmp_path, Picky())


class Broken(FakeExtractor):
    """One clip's frames come out wrong."""

    def __init__(self, value: float) -> None:
        super().__init__(masked=False)
        self.value = value

    def __call__(self, waves, lengths):
        frames, counts = super().__call__(waves, lengths)
        frames[lengths == 300, 2, 3] = self.value
        return frames, counts


def test_overflow_and_nan_name_the_clip_and_the_remedy(tmp_path, corpus):
    with pytest.raises(EmoshareError, match=r"clip 0\.wav: frames as large as 7e\+04.*extract\.precision=bfloat16"):
        run(corpus, ZEROS, tmp_path, Broken(70_000.0))
    for value in (float("nan"), float("inf")):
        with pytest.raises(EmoshareError, match=r"clip 0\.wav: .*NaN.*extract\.precision=bfloat16"):
            run(corpus, ZEROS, tmp_path, Broken(value))
    store = run(corpus, ZEROS, tmp_path, Broken(70_000.0), precision="bfloat16")
    assert store.gather(np.array([0]))[0][0, 2, 3] == torch.tensor(70_000.0).bfloat16()


def test_a_clip_that_changed_since_the_check_is_named(tmp_path):
    corpus = make_corpus(tmp_path / "wav", 10)
    corpus.path("clip 4.wav").write_bytes(corpus.path("clip 0.wav").read_bytes())
    with pytest.raises(EmoshareError, match=r"clip 4\.wav: has changed since it was checked; run the command again"):
        run(corpus, NONE, tmp_path)
    corpus.path("clip 4.wav").write_bytes(b"")
    with pytest.raises(EmoshareError, match=r"clip 4\.wav"):
        run(corpus, NONE, tmp_path)
    assert not pool_threads()


def test_random_crop_is_refused(tmp_path, corpus):
    with pytest.raises(EmoshareError, match=r"window\.crop=random"):
        run(corpus, Window(0.15, "random", "zeros"), tmp_path)


def test_full_disk_before_starting(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    engine = FakeExtractor()
    with pytest.raises(EmoshareError, match=r"are free; .*paths\.cache"):
        run(corpus, ZEROS, tmp_path, engine)
    assert engine.shapes == []


def test_full_disk_under_way_leaves_a_store_to_be_resumed(tmp_path, corpus):
    """A real limit: the kernel refuses to write beyond 800 bytes of a file, which the longer clips' segments need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (800, hard))
        with pytest.raises(EmoshareError, match=r"File too large while writing frames.*goes on where this one stopped"):
            run(corpus, NONE, tmp_path, batch_seconds=0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    engine = FakeExtractor()
    assert_right(run(corpus, NONE, tmp_path, engine), corpus, NONE)
    assert 0 < sum(rows for rows, _ in engine.shapes) < 40
    assert not pool_threads()


# Processes that die. One child forks them all, so that torch is imported once.

SCRIPT = """
    import json, logging, os, random, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from emoshare.store import cache, extract
    from emoshare.data.window import Window
    from extraction import SlowExtractor, make_corpus, run

    extract.CHUNK_ROWS = 3
    root, window = Path({root!r}), Window(0.15, "start", "none")
    corpus = make_corpus(root / "wav", 60)

    def start(pause):
        pid = os.fork()
        if pid == 0:
            run(corpus, window, folder, SlowExtractor(pause, computed), batch_seconds=0.3)
            os._exit(0)
        return pid

    def stores():
        return [f for f in (folder / "frames").glob("*") if f.is_dir()]

    def held(folder):
        return sum(len(segment.entries) for segment in cache.segments(folder))

    def until(condition):
        while not condition():
            time.sleep(0.01)

    def size():
        return os.fstat(computed).st_size

    def kill_at_random():
        rng, kills, whole = random.Random(5), 0, 0
        while kills < 25 or not whole:
            pid = start(0.004)
            time.sleep(rng.uniform(0.0, 0.15))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills += 1
            if complete := [f for f in stores() if held(f) == 60]:
                whole += 1
                os.rename(complete[0], folder / f"killed{{whole}}")
            if kills > 200:
                sys.exit("never complete")
        before = size()
        os.waitpid(start(0), 0)
        os.rename(stores()[0], folder / "last")
        os.waitpid(start(0), 0)
        return kills, whole, before

    def share():
        workers = [start(0.03) for _ in range(3)]
        return [os.waitpid(worker, 0)[1] for worker in workers], size()

    def take_over():
        workers = [start(0.03) for _ in range(3)]
        until(lambda: size() >= 20)
        os.kill(workers[1], signal.SIGKILL)
        return [os.waitpid(worker, 0)[1] for worker in workers], size()

    found = {{}}
    for scenario in (kill_at_random, share, take_over):
        folder = root / scenario.__name__
        folder.mkdir()
        computed = os.open(folder / "computed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        found[scenario.__name__] = scenario()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def died(tmp_path_factory):
    """The folder in which processes were killed, and what the scenarios returned."""
    root = tmp_path_factory.mktemp("died")
    code = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parents[1]), root=str(root))
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    return root, json.loads(result.stdout)


def test_killed_at_random_moments_many_times(died):
    folder = died[0] / "kill_at_random"
    kills, whole, computed = died[1]["kill_at_random"]
    assert kills >= 25
    assert computed < 60 * (whole + 1) + kills * 30  # each attempt went on where the last one stopped
    (uninterrupted,) = [f for f in (folder / "frames").glob("*") if f.is_dir()]
    wanted = contents(uninterrupted)
    assert len(wanted) == 60
    for killed in [folder / "last", *(folder / f"killed{i + 1}" for i in range(whole))]:
        assert contents(killed) == wanted
        assert cache.verify(killed) == []
        assert not list((killed / "segments").glob("*.part"))
    corpus = make_corpus(died[0] / "wav", 60)
    assert_right(run(corpus, NONE, folder), corpus, NONE)


def contents(folder: Path) -> dict[bytes, bytes]:
    """The bytes of each clip's frames, read without the store's own reader."""
    found = {}
    for segment in cache.segments(folder):
        data, at = segment.path.read_bytes(), segment.offset
        for entry in segment.entries:
            size = int(entry["frames"]) * segment.frame_bytes
            found[entry["key"].tobytes()], at = data[at : at + size], at + size
    return found


def test_three_processes_compute_each_clip_once(died):
    statuses, computed = died[1]["share"]
    assert statuses == [0, 0, 0]
    assert computed == 60
    (shared,) = (died[0] / "share" / "frames").glob("*[0-9a-f]")
    (alone,) = [f for f in (died[0] / "kill_at_random" / "frames").glob("*") if f.is_dir()]
    assert contents(shared) == contents(alone)


def test_of_three_processes_the_others_take_over_what_a_killed_one_leaves(died):
    statuses, computed = died[1]["take_over"]
    assert statuses == [0, signal.SIGKILL, 0]
    assert 60 <= computed < 60 + 3 * 8  # what it had claimed, at most
    corpus = make_corpus(died[0] / "wav", 60)
    store = run(corpus, NONE, died[0] / "take_over")
    assert not store.computed
    assert_right(store, corpus, NONE)


def test_helpers_share_the_work_and_the_frames_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "CHUNK_ROWS", 3)
    corpus, counter = make_corpus(tmp_path / "wav"), tmp_path / "computed"
    helpers = partial(helping, 2, help_run, (corpus, NONE, tmp_path / "cache", counter))

    class Waiting(SlowExtractor):
        def __call__(self, waves, lengths):
            while not counter.stat().st_size:  # until a helper has begun
                time.sleep(0.02)
            return super().__call__(waves, lengths)

    with counter.open("ab") as file:
        engine = Waiting(0.03, file.fileno())
        store = run(corpus, NONE, tmp_path / "cache", engine, batch_seconds=0.3, helpers=helpers)
    assert counter.stat().st_size == 40
    assert 0 < store.computed < 40
    assert_right(store, corpus, NONE)


def test_windows_of_other_lengths_share_the_clips_that_fit_and_folds_share_all(tmp_path, corpus):
    """Without padding, a clip that is shorter than two windows is one and the same in both."""
    longer = Window(0.19, "start", "none")
    engine = FakeExtractor()
    stores = [run(corpus, window, tmp_path, engine) for window in (NONE, longer)]
    samples = np.round(corpus.seconds * 16_000)
    alike = sum(NONE.length(int(n)) == longer.length(int(n)) for n in samples)
    assert 0 < alike < 40
    assert [store.computed for store in stores] == [40, 40 - alike]
    for window, store in zip((NONE, longer), stores, strict=True):
        assert_right(store, corpus, window)
    assert stores[0].folder == stores[1].folder
    rng = np.random.default_rng(0)
    for _ in range(5):  # each with another order and another part of the clips
        rows = rng.permutation(40)[:30]
        files, digests = zip(*((corpus.files[row], corpus.digests[row]) for row in rows), strict=True)
        fold = replace(corpus, files=files, digests=digests, seconds=corpus.seconds[rows])
        store = run(fold, NONE, tmp_path, engine)
        assert not store.computed
        assert_right(store, fold, NONE)
    assert sum(rows for rows, _ in engine.shapes) == 80 - alike


def test_a_center_crop_is_another_stretch_where_the_clip_is_longer(tmp_path, corpus):
    center, engine = Window(0.15, "center", "none"), FakeExtractor()
    run(corpus, NONE, tmp_path, engine)
    store = run(corpus, center, tmp_path, engine)
    moved = sum(center.start(int(n)) > 0 for n in np.round(corpus.seconds * 16_000))
    assert store.computed == moved > 0


def test_padding_counts_unless_the_backbone_does_not_see_it(tmp_path, corpus):
    for sees, computed in ((True, 40), (False, sum(corpus.seconds > 0.15))):
        first, second = FakeExtractor(masked=False), FakeExtractor(masked=False)
        first.sees_padding = second.sees_padding = sees
        run(corpus, ZEROS, tmp_path / str(sees), first)
        assert run(corpus, Window(0.19, "start", "zeros"), tmp_path / str(sees), second).computed == computed


def test_files_that_are_clips_of_a_corpus_cost_nothing(tmp_path, corpus):
    engine = FakeExtractor()
    engine.window = NONE
    run(corpus, NONE, tmp_path, engine)
    new = make_corpus(tmp_path / "new", 3, seed=1)
    paths = [corpus.path("clip 7.wav"), new.path("clip 2.wav"), corpus.path("clip 3.wav")]
    engine.shapes.clear()
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    seconds = [corpus.seconds[7], new.seconds[2], corpus.seconds[3]]
    store = extract.frames_of(Clips("files", paths, digests, seconds, NONE), engine, tmp_path)
    assert store.computed == sum(rows for rows, _ in engine.shapes) == 1
    frames, lengths = store.gather(np.arange(3))
    for row, (source, clip) in enumerate([(corpus, 7), (new, 2), (corpus, 3)]):
        np.testing.assert_array_equal(frames[row, : lengths[row]].numpy(), expected(source, NONE, clip))


def test_another_scale_gives_other_frames(tmp_path):
    corpus = make_corpus(tmp_path / "wav", 5)
    for file in corpus.files:
        rate, values = wavfile.read(corpus.path(file))
        wavfile.write(corpus.path(file), rate, values.astype(np.float32))
    digests = tuple(hashlib.sha256(corpus.path(file).read_bytes()).digest() for file in corpus.files)
    corpus = replace(corpus, digests=digests, scale=32768.0)
    assert run(corpus, NONE, tmp_path).computed == 5
    assert run(corpus, NONE, tmp_path).computed == 0
    louder = run(replace(corpus, scale=16384.0), NONE, tmp_path)
    assert louder.computed == 5
    (first, *_), (other, *_) = (store.gather(np.arange(5))[0] for store in (run(corpus, NONE, tmp_path), louder))
    np.testing.assert_array_equal(2 * first.numpy(), other.numpy())


def test_equal_clips_are_computed_once(tmp_path):
    corpus = make_corpus(tmp_path / "wav", 10)
    double = replace(
        corpus, files=corpus.files * 2, digests=corpus.digests * 2, seconds=np.concatenate([corpus.seconds] * 2)
    )
    engine = FakeExtractor()
    store = run(double, NONE, tmp_path, engine)
    assert sum(rows for rows, _ in engine.shapes) == store.computed == 10
    assert_right(store, double, NONE)
    assert store.cost["bytes"] == run(corpus, NONE, tmp_path).cost["bytes"]


EARLIER: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def earlier_threads() -> None:
    """Note the threads that other tests of this process have left."""
    EARLIER.clear()
    EARLIER.update(threading.enumerate())


def pool_threads() -> list[str]:
    """Threads of readers and writers that the test has left; those of other libraries are not ours."""
    new = [thread.name for thread in threading.enumerate() if thread not in EARLIER]
    return [name for name in new if name.startswith("ThreadPoolExecutor")]
