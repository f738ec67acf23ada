"""A config as it was written comes back as it was, typed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from composed import config

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError

OVERRIDES = [
    ["backbone=logmel", "optimizer.lr=1e-5", "data.targets=[a,b]", "+trainer.options.gradient_clip_val=1"],
    ["data.test=null", "cache.max_gb=3", "logger.mode=online", "backbone.layer=3", "bench.clips=4"],
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_load_gives_the_typed_config_back(tmp_path: Path, overrides: list[str]) -> None:
    made = config(*overrides)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(asdict(made), sort_keys=False))
    assert Config.load(path) == made


def test_numbers_are_what_their_fields_are(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("window: {seconds: 3}\noptimizer: {lr: 1e-3}\n")
    loaded = Config.load(path)
    assert isinstance(loaded.window.seconds, float)
    assert loaded.optimizer.lr == 0.001
    assert loaded.head.hidden == 256, "what is absent keeps its default"


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("windw: {}\nwindow: {second: 3}\nseed: x\nresume: 2\ndata: {targets: Joy}\nhead: 5\n")
    with pytest.raises(EmoshareError) as error:
        Config.load(path)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    for words in ("windw: no such key; did you mean 'window'", "window.second: no such key", "seed=x: must be",
                  "resume=2: must be true", "data.targets=Joy: must be a list", "head=5: must be"):  # fmt: skip
        assert sum(words in line for line in lines) == 1, words


@pytest.mark.parametrize("text", ["{", "\0", "5"])
def test_a_file_that_is_no_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(EmoshareError, match=r"config\.yaml"):
        Config.load(tmp_path / "config.yaml")
