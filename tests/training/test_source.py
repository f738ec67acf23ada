"""Where frames come from, what that resolved to, and how many threads the work gets."""

from contextlib import nullcontext

import pytest
import torch
from composed import config, on_cpu

from emoshare.training import source


@pytest.fixture
def threads(monkeypatch):
    """The numbers of threads that PyTorch was set to."""
    asked = []
    monkeypatch.setattr(source, "usable_cores", lambda: 3)
    monkeypatch.setattr(source.torch, "set_num_threads", asked.append)
    monkeypatch.setattr(source.torch, "get_num_threads", lambda: asked[-1] if asked else 0)
    return asked


@pytest.fixture
def opened(corpus_root, tmp_path):
    def open_source(*overrides: str) -> source.Source:
        paths = [f"data.root={corpus_root}", f"paths.cache={tmp_path}", "trainer.progress=false"]
        c = config("backbone=tiny", "window.seconds=0.5", "extract.compute=float32", *paths, *overrides)
        return source.open(on_cpu(c))

    return open_source


def test_stored_frames_take_all_cores_to_extract_and_one_to_train_on(opened, threads):
    found = opened()
    assert threads == [3, 1]
    assert found.backbone is None
    assert found.resolved == {"compute": "float32", "stored": "float16"}
    assert (found.width, found.states) == (64, 1)
    assert found.identity == found.store.recipe.backbone


def test_a_backbone_in_the_loop_takes_all_cores(opened, threads, caplog):
    found = opened("backbone.cache=false", "backbone.layer=weighted")
    assert threads == [3]
    assert found.store is None
    assert found.resolved == {"compute": "float32"}
    assert (found.width, found.states) == (4 * 64, 4)
    assert "not stored" not in caplog.text
    opened("window.crop=random")
    assert "frames are not stored: every epoch sees other windows (window.crop=random)" in caplog.text


@pytest.mark.parametrize("cache", ["true", "false"])
def test_the_user_has_the_last_word_on_threads(opened, threads, cache):
    opened(f"backbone.cache={cache}", "trainer.threads=2")
    assert set(threads) == {2}


def test_workers_share_the_cores_and_help_with_what_is_missing_alone(opened, threads, monkeypatch):
    started = []
    monkeypatch.setattr(source, "helping", lambda count, *rest: started.append(count) or nullcontext())
    opened("extract.workers=3")
    assert (started, threads) == ([2], [1])
    opened("extract.workers=3")  # all is stored
    assert started == [2]


def test_a_helper_takes_the_next_gpu_and_its_part_of_the_cores(threads, monkeypatch):
    seen = []
    monkeypatch.setattr(source, "open_store", lambda run: seen.append((run.config.extract.workers, run.device.index)))
    monkeypatch.setattr(source.torch.cuda, "device_count", lambda: 2)
    asked = on_cpu(config("backbone=tiny", "extract.workers=3"))
    asked.device = torch.device("cuda", 0)
    for number in (1, 2):
        source.help_extract(number, asked)
    assert seen == [(1, 1), (1, 0)]
