"""Extraction: the frames are right whatever happens to batches, memory, disk and processes."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extraction import CPU, IDENTITY, FakeEngine, expected, make_corpus, run

from emoshare.backbones import engine as engines
from emoshare.backbones.base import load_backbone
from emoshare.core.config import BackboneConfig, CacheConfig, Config, ExtractConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.store import cache, extract, frames

ZEROS, NONE = Window(0.15, "start", "zeros"), Window(0.15, "start", "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("wav"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(frames, "CHUNK_ROWS", 7)
    monkeypatch.setattr(extract, "make_engine", extract.make_engine)  # tests replace it


def assert_right(store, corpus, window, scale=1.0):
    batch, lengths = store.gather(np.arange(len(corpus.files)))
    for row in range(len(corpus.files)):
        wanted = expected(corpus, window, row, scale)
        assert lengths[row] == len(wanted)
        np.testing.assert_array_equal(batch[row, : len(wanted)].numpy(), wanted)
        assert not batch[row, len(wanted) :].any()


@pytest.mark.parametrize("seconds", ["auto", "0.001", "0.2", "1"])
@pytest.mark.parametrize(("window", "equal"), [(ZEROS, False), (NONE, False), (NONE, True)])
def test_frames_are_right_whatever_the_batch_size(tmp_path, corpus, window, equal, seconds):
    engine = FakeEngine(masked=window.pad == "none")
    store = run(corpus, window, tmp_path, engine, equal, max_batch_seconds=seconds)
    assert not store.reused
    assert_right(store, corpus, window)
    largest = {"auto": 40, "0.001": 1}.get(seconds)
    if largest and not equal:
        assert max(rows for rows, _ in engine.shapes) == largest
    if seconds in ("0.2", "1"):
        assert max(rows * samples for rows, samples in engine.shapes) <= float(seconds) * 16_000
    assert store.cost["audio_seconds"] == pytest.approx(
        sum(0.15 if window is ZEROS else (300 + 100) / 16_000 if s < 400 else (400 + (s - 400) // 320 * 320) / 16_000
            for s in np.minimum(np.round(corpus.seconds * 16_000), 2400))
    )  # fmt: skip
    assert store.cost["recipe"] == store.store.recipe.hash
    assert cache.verify(store.store.folder) == []


def test_equal_lengths_are_never_mixed(tmp_path, corpus):
    class Equal(FakeEngine):
        def __call__(self, waves, lengths):
            assert (lengths == waves.shape[1]).all()
            return super().__call__(waves, lengths)

    engine = Equal()
    assert_right(run(corpus, NONE, tmp_path, engine, equal=True), corpus, NONE)
    assert any(rows > 1 for rows, _ in engine.shapes)


def test_second_call_reuses_the_store_without_loading_the_backbone(tmp_path, corpus):
    first, engine = run(corpus, ZEROS, tmp_path), FakeEngine(masked=False)
    again = run(corpus, ZEROS, tmp_path, engine)
    assert again.reused
    assert again.cost == {**first.cost, "reused": True}
    assert not hasattr(engine, "loaded")
    run(corpus, ZEROS, tmp_path, engine, precision="float32")
    assert engine.loaded


def test_frames_of_a_fallback_engine_never_stand_under_the_other_ones_name(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(extract, "resolve_engine", lambda name, *_: "openvino" if name == "auto" else name)
    store = run(corpus, ZEROS, tmp_path, engine="auto")  # make_engine gives an engine named torch
    assert store.store.recipe.engine == "torch"
    assert [s.recipe["engine"] for s in cache.stores(tmp_path)] == ["torch"]
    assert_right(store, corpus, ZEROS)


def test_nothing_is_pruned_for_an_engine_that_cannot_be(tmp_path, corpus, monkeypatch):
    room = []
    monkeypatch.setattr(extract, "make_room", lambda folder, *_: room.append(folder))
    monkeypatch.setattr(extract, "resolve_engine", lambda name, *_: "openvino" if name == "auto" else name)
    store = run(corpus, ZEROS, tmp_path, engine="auto")  # make_engine gives an engine named torch
    assert room == [store.store.folder]


def test_an_engine_that_has_failed_is_not_tried_again(tmp_path, corpus, monkeypatch, caplog):
    monkeypatch.setattr(engines, "resolve_engine", lambda name, *_: "openvino" if name == "auto" else name)
    monkeypatch.setattr(engines, "version", lambda package: "1")
    failure = engines.failure_of(IDENTITY, torch.float32, tmp_path)
    failure.parent.mkdir()
    failure.write_text("no such operation\n")
    for _ in range(2):
        assert run(corpus, ZEROS, tmp_path, engine="auto").store.recipe.engine == "torch"
    assert caplog.text.count("(no such operation): PyTorch computes its frames; delete") == 2


def test_another_backbone_than_the_remembered_one_is_refused(tmp_path, corpus):
    with pytest.raises(EmoshareError, match=r"identities: remembers another fake than was loaded; delete it"):
        run(corpus, ZEROS, tmp_path, weights="1")
    assert cache.stores(tmp_path) == []


def test_a_remembered_backbone_belongs_to_the_code(tmp_path, monkeypatch):
    from emoshare.training import train

    config, loaded = Config(backbone=tiny()), []

    def load() -> SimpleNamespace:
        loaded.append(1)
        return SimpleNamespace(identity={"name": "tiny"})

    for version in (1, 1, 2):
        monkeypatch.setattr(train, "VERSION", version)
        assert train.identity_of(config, tmp_path, load) == {"name": "tiny"}
    assert len(loaded) == 2


def test_nothing_holds_the_backbone_after_an_extraction(tmp_path):
    """So that the memory it takes of a GPU is free for training."""
    corpus, window = make_corpus(tmp_path / "wav", 4), WindowConfig(seconds=0.15)
    held = [load_backbone(tiny(layer="weighted"), window)]
    identity, alive = held[0].identity, weakref.ref(held[0])
    store = extract.ensure_store(
        corpus, Window.of(window), identity, held.pop, ExtractConfig(), CacheConfig(), tmp_path, CPU, False
    )
    gc.collect()
    assert not store.reused
    assert alive() is None


def test_a_backbone_in_training_extracts_as_a_frozen_one(tmp_path):
    """Without dropout."""
    corpus, window, stores = make_corpus(tmp_path / "wav", 4), WindowConfig(seconds=0.15), []
    for frozen in (True, False):
        backbone = load_backbone(tiny(frozen=frozen), window)
        stores.append(extract.ensure_store(
            corpus, Window.of(window), backbone.identity, lambda backbone=backbone: backbone,
            ExtractConfig(engine="torch", compute="float32"), CacheConfig(), tmp_path / str(frozen), CPU, False,
        ))  # fmt: skip
    frames = [store.gather(np.arange(4))[0].float() for store in stores]
    torch.testing.assert_close(*frames, rtol=2e-3, atol=2e-3)


def test_frames_of_a_trained_backbone_are_not_stored(emoshare, tmp_path):
    result = emoshare("extract", "data=demo", "backbone=tiny", "backbone.frozen=false")
    assert result.status == 1
    assert "backbone.frozen=false: frames of a trained backbone are not stored" in result.err
    assert list(tmp_path.iterdir()) == []


def test_log_mel_frames_are_those_of_float32_on_every_machine(tmp_path, corpus):
    config, window = BackboneConfig("logmel", "logmel", None, "logmel", 80, 0), WindowConfig(seconds=0.15)
    half = load_backbone(config, window, torch.bfloat16)
    for compute in ("float32", "bfloat16"):
        recipe = extract.make_recipe(corpus, ZEROS, half.identity, ExtractConfig(compute=compute), CPU)
        assert recipe.compute == "float32"
    waves = torch.randn(1, 2_400)
    torch.testing.assert_close(half(waves)[0], load_backbone(config, window)(waves)[0], rtol=0, atol=0)


def test_progress_bar_is_shown(tmp_path, corpus, capsys):
    run(corpus, ZEROS, tmp_path, progress=True)
    assert "40/40 clips" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_stored_precision(tmp_path, corpus, precision):
    store = run(corpus, ZEROS, tmp_path, FakeEngine(1 / 3, masked=False), precision=precision)
    batch, _ = store.gather(np.array([5]))
    exact = run(corpus, ZEROS, tmp_path, FakeEngine(1 / 3, masked=False), precision="float32").gather(np.array([5]))[0]
    assert batch.dtype == getattr(torch, precision)
    assert torch.equal(batch, exact.to(batch.dtype))


class Limited(FakeEngine):
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
    store = run(corpus, NONE, tmp_path, engine, max_batch_seconds="6")
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


@pytest.mark.parametrize("wanted", ["0", "-3", "many", "nan"])
def test_bad_batch_seconds(tmp_path, corpus, wanted):
    with pytest.raises(EmoshareError, match=f"extract.max_batch_seconds={wanted}"):
        run(corpus, NONE, tmp_path, max_batch_seconds=wanted)


class Broken(FakeEngine):
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
    with pytest.raises(EmoshareError, match=r"clip 4\.wav: 400 samples in the window"):
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
    engine = FakeEngine()
    with pytest.raises(EmoshareError, match=r"are free; .*paths\.cache"):
        run(corpus, ZEROS, tmp_path, engine)
    assert engine.shapes == []


def test_full_disk_under_way_leaves_a_store_to_be_resumed(tmp_path, corpus):
    """A real limit: the kernel refuses to write beyond 2,000 bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = run(corpus, NONE, tmp_path / "full")
    folder = tmp_path / "frames" / full.store.folder.name
    folder.mkdir(parents=True)
    (folder / "frames.bin").touch()
    os.truncate(folder / "frames.bin", full.cost["bytes"])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(EmoshareError, match=r"File too large while writing frames.*goes on where this one stopped"):
            run(corpus, NONE, tmp_path, max_batch_seconds="0.2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    engine = FakeEngine()
    assert_right(run(corpus, NONE, tmp_path, engine), corpus, NONE)
    assert 0 < sum(rows for rows, _ in engine.shapes) < 40
    assert not pool_threads()


def tiny(kind="wav2vec2", norm="layer", **changes):
    return BackboneConfig(
        "tiny", "tiny", None, kind, 64, 3, None, norm, normalize=True, mask=norm == "layer", **changes
    )  # fmt: skip


@pytest.mark.parametrize("pad", ["zeros", "none"])
@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        tiny(norm="group"),
        tiny("wavlm", layer="1"),
        tiny("unispeech-sat", "group", layer="weighted"),
        BackboneConfig("logmel", "logmel", None, "logmel", 80, 0, normalize=False, mask=False),
    ],
    ids=lambda c: f"{c.type}-{c.conv_norm}-{c.layer}",
)
def test_stored_frames_are_those_of_the_backbone_alone(tmp_path, config, pad):
    """Each clip by itself, without batch or mask, through the backbone: up to float16 what stands in the store."""
    corpus = make_corpus(tmp_path / "wav", 12)
    window = WindowConfig(seconds=0.15, pad=pad, normalize="checkpoint")
    backbone = load_backbone(config, window)
    store = extract.ensure_store(
        corpus, Window.of(window), backbone.identity, lambda: load_backbone(config, window),
        ExtractConfig(engine="torch", compute="float32", max_batch_seconds="0.5"), CacheConfig(), tmp_path, CPU, False,
    )  # fmt: skip
    frames, lengths = store.gather(np.arange(12))
    for row, file in enumerate(corpus.files):
        wave = torch.zeros(1, Window.of(window).samples)
        cut = torch.from_numpy(Window.of(window).cut(read(corpus.path(file))))
        wave[0, : len(cut)] = cut
        wave = wave if pad == "zeros" else wave[:, : len(cut)]
        alone, counts = backbone(wave, torch.tensor([len(cut)]))
        assert lengths[row] == counts[0] == alone.shape[1]
        torch.testing.assert_close(frames[row, : lengths[row]].float(), alone[0], rtol=2e-3, atol=2e-3)


# Processes that die. One child forks them all, so that torch is imported once.

SCRIPT = """
    import json, logging, os, random, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from emoshare.store import frames
    from emoshare.data.window import Window
    from extraction import CPU, FakeEngine, make_corpus, run

    frames.CHUNK_ROWS = 3
    root, window = Path({root!r}), Window(0.15, "start", "none")
    corpus = make_corpus(root / "wav", 60)

    class Slow(FakeEngine):
        def __call__(self, waves, lengths):
            time.sleep(self.pause)
            os.write(computed, b"." * len(waves))
            return super().__call__(waves, lengths)

    def start(pause, log=None):
        pid = os.fork()
        if pid == 0:
            log and logging.basicConfig(filename=log, level=logging.INFO)
            engine = Slow()
            engine.pause = pause
            run(corpus, window, folder, engine, max_batch_seconds="0.3")
            os._exit(0)
        return pid

    def stores():
        return [f for f in (folder / "frames").glob("*") if f.is_dir()]

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
            if complete := [f for f in stores() if (f / "complete").exists()]:
                whole += 1
                os.rename(complete[0], folder / f"killed{{whole}}")
            if kills > 200:
                sys.exit("never complete")
        before = size()
        os.waitpid(start(0), 0)
        os.rename(stores()[0], folder / "last")
        os.waitpid(start(0), 0)
        return kills, whole, before

    def wait_for_the_first():
        first = start(0.03)
        until(stores)
        second = start(0.03, folder / "log")
        return os.waitpid(first, 0)[1], os.waitpid(second, 0)[1], size()

    def take_over_from_the_first():
        first = start(0.03)
        until(lambda: size() >= 20)
        second = start(0.03, folder / "log")
        until(lambda: (folder / "log").exists() and "another process" in (folder / "log").read_text())
        os.kill(first, signal.SIGKILL)
        return os.waitpid(first, 0)[1], os.waitpid(second, 0)[1], size()

    found = {{}}
    for scenario in (kill_at_random, wait_for_the_first, take_over_from_the_first):
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
    names = ("frames.bin", "lengths.npy", "recipe.json")
    wanted = [(uninterrupted / name).read_bytes() for name in names]
    for killed in [folder / "last", *(folder / f"killed{i + 1}" for i in range(whole))]:
        assert [(killed / name).read_bytes() for name in names] == wanted
        assert cache.verify(killed) == []
    corpus = make_corpus(died[0] / "wav", 60)
    assert_right(run(corpus, NONE, folder), corpus, NONE)


def test_of_two_processes_one_computes_and_the_other_waits(died):
    assert died[1]["wait_for_the_first"] == [0, 0, 60]
    assert "another process extracts" in (died[0] / "wait_for_the_first" / "log").read_text()


def test_of_two_processes_the_second_takes_over_when_the_first_dies(died):
    first, second, computed = died[1]["take_over_from_the_first"]
    assert (first, second) == (signal.SIGKILL, 0)
    assert 60 <= computed < 120
    corpus = make_corpus(died[0] / "wav", 60)
    store = run(corpus, NONE, died[0] / "take_over_from_the_first")
    assert store.reused
    assert_right(store, corpus, NONE)


def pool_threads() -> list[str]:
    """Threads of readers and writers that are still there; those of other libraries are not ours."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
