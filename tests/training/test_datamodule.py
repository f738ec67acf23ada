"""Batches: the same clips in the same order, whatever serves them."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest
import torch
from composed import config, on_cpu
from torch.utils.data import DataLoader

from emoshare.command.messages import one_line
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus as corpora
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.training import source
from emoshare.training.datamodule import (
    DeviceFrames,
    EmotionShareData,
    Frames,
    PrefetchingLoader,
    Shuffle,
    Windows,
    fork_server,
    kill_loaders,
    pass_through,
)


@pytest.fixture
def setting(corpus_root, tmp_path):
    """A config, its corpus and window, and a function that stores the frames."""

    def make(*overrides: str):
        paths = [f"data.root={corpus_root}", f"paths.cache={tmp_path}/cache", "trainer.progress=false"]
        c = config("backbone=logmel", "window.seconds=1.5", *paths, *overrides)
        corpus, window = corpora.load(c.data, tmp_path / "cache"), Window.of(c.window)
        store = source.open_store(on_cpu(c))
        return c, corpus, window, store

    return make


@pytest.mark.parametrize("pad", ["zeros", "none"])
def test_windows_are_the_clips_and_zeros_right_of_them(setting, pad) -> None:
    _, corpus, window, _ = setting(f"window.pad={pad}", "window.seconds=2")
    part = corpus.partitions["devel"]
    batch = Windows(part, corpus, window, False, 0).__getitems__([3, 0, 5])
    assert batch["clip"].tolist() == [3, 0, 5]
    for wave, length, row in zip(batch["waves"], batch["lengths"].tolist(), (3, 0, 5), strict=True):
        clip = read(corpus.path(part.files[row]))
        assert length == (min(len(clip), 32000) if pad == "zeros" else (min(len(clip), 32000) - 400) // 320 * 320 + 400)
        np.testing.assert_array_equal(wave[:length].numpy(), clip[:length])
        assert not wave[length:].any()
    assert batch["waves"].shape[1] == (32000 if pad == "zeros" else int(batch["lengths"].max()))
    np.testing.assert_array_equal(batch["shares"].numpy(), part.shares[[3, 0, 5]])


@pytest.mark.parametrize("pad", ["zeros", "none"])
def test_frames_on_a_device_and_in_loader_processes_are_the_stores(setting, pad) -> None:
    _, corpus, _, store = setting(f"window.pad={pad}")
    part = corpus.partitions["devel"]
    rows = np.array([4, 0, 7]) + part.start
    frames, lengths = store.gather(rows)
    held = DeviceFrames(store, part, torch.device("cpu"), chunk=3).gather(rows)
    torch.testing.assert_close(held[0], frames)
    assert held[1].tolist() == lengths.tolist()
    assert store.nbytes(rows) == sum(clip[:n].nbytes for clip, n in zip(frames, lengths.tolist(), strict=True))
    loader = DataLoader(
        Frames(part, store), batch_size=4, num_workers=1, multiprocessing_context=fork_server(), collate_fn=pass_through
    )
    for batch in loader:
        direct, counts = store.gather(batch["clip"].numpy() + part.start)
        torch.testing.assert_close(batch["frames"], direct)
        assert batch["lengths"].tolist() == counts.tolist()


def test_order_depends_on_seed_and_epoch_alone(setting) -> None:
    _, corpus, _, store = setting()

    def order(seed: int, epoch: int) -> list[int]:
        sampler = Shuffle(Frames(corpus.partitions["train"], store), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(len(corpus.partitions["train"].files)))


def test_store_and_windows_serve_the_same_batches(setting) -> None:
    c, corpus, window, store = setting()
    loaders = [EmotionShareData(corpus, window, c.data, 0, s).train_dataloader() for s in (store, None)]
    for loader in loaders:
        loader.sampler.set_epoch(2)
    clips = [[batch["clip"].tolist() for batch in batches_of(loader)] for loader in loaders]
    assert clips[0] == clips[1]
    assert {len(batch) for batch in clips[0]} == {8}


def test_batches_made_ahead_are_the_same(setting) -> None:
    _, corpus, _, store = setting()
    part = corpus.partitions["train"]
    options = {"batch_size": 5, "collate_fn": pass_through}
    plain, ahead = (list(kind(Frames(part, store), **options)) for kind in (DataLoader, PrefetchingLoader))
    assert [b["clip"].tolist() for b in plain] == [b["clip"].tolist() for b in ahead]
    assert all(torch.equal(a["frames"], b["frames"]) for a, b in zip(plain, ahead, strict=True))
    assert next(iter(PrefetchingLoader(Frames(part, store), **options)))["clip"].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]  # and left early


def test_what_fails_in_the_thread_ahead_is_raised(setting) -> None:
    _, corpus, _, _ = setting()

    class Broken:
        def gather(self, rows: np.ndarray) -> None:
            raise OSError("a bad disk")

    with pytest.raises(OSError, match="a bad disk"):
        list(PrefetchingLoader(Frames(corpus.partitions["train"], Broken()), batch_size=5, collate_fn=pass_through))


def test_what_a_loader_process_cannot_read_is_said_in_one_line(setting, tmp_path) -> None:
    _, corpus, window, _ = setting()
    moved = dataclasses.replace(corpus, wav=tmp_path)
    clips = Windows(corpus.partitions["train"], moved, window, True, 0)
    loader = DataLoader(clips, num_workers=1, multiprocessing_context=fork_server(), collate_fn=pass_through)
    with pytest.raises(EmoshareError) as raised:
        next(iter(loader))
    assert one_line(raised.value).startswith(str(tmp_path))
    assert "\n" not in one_line(raised.value)


def batches_of(loader):
    """The batches without loader processes."""
    return (loader.dataset.__getitems__(rows) for rows in loader.batch_sampler)


def test_random_crops_change_with_the_epoch_and_only_in_training(setting, corpus_root) -> None:
    _, corpus, _, _ = setting()
    window = Window(0.5, "random", "zeros")
    clips = Windows(corpus.partitions["train"], corpus, window, True, 0)
    first, again = clips.cut(1), clips.cut(1)
    np.testing.assert_array_equal(first, again)
    clips.epoch = 1
    assert not np.array_equal(first, clips.cut(1))
    still = Windows(corpus.partitions["train"], corpus, window, False, 0)
    np.testing.assert_array_equal(still.cut(1), Window(0.5, "center", "zeros").cut(read(corpus.path(corpus.files[1]))))


def blocked(wire) -> None:
    wire.send(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_a_clusters_signals_to_all_processes_leave_loaders_at_work() -> None:
    """SLURM sends them to every process of a step; only the run's own is to react."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    context = fork_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=blocked, args=[theirs], daemon=True)
    process.start()
    assert ours.recv() >= {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    process.join()


def test_a_loader_process_that_is_left_at_the_end_is_killed() -> None:
    context = fork_server()
    _ours, theirs = context.Pipe()
    process = context.Process(target=theirs.recv, daemon=True)
    process.start()
    kill_loaders()  # SIGTERM is blocked there
    process.join()
    assert process.exitcode == -signal.SIGKILL
