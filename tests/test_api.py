"""The Python door: its examples run as they stand, and it opens quickly."""

from __future__ import annotations

import doctest
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emoshare
from emoshare import api


def test_the_examples_of_the_docstrings_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("emoshare"), "handlers", [])  # of a command line that an earlier test ran
    result = doctest.testmod(api, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 10
    assert result.failed == 0


def test_training_from_python_says_nothing_that_is_no_use(tmp_path) -> None:
    program = (
        "import emoshare; emoshare.train('data=demo', 'data.clips=40', 'backbone=logmel', 'window.seconds=1', "
        "'trainer.epochs=1', 'logger=none')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_every_public_name_is_there_and_typed() -> None:
    assert all(getattr(emoshare, name) is not None for name in emoshare.__all__)
    assert set(emoshare.__all__) <= set(dir(emoshare))
    assert (Path(emoshare.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        emoshare.nonsense  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    program = "import sys, emoshare; print(*sorted({'torch', 'hydra', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_run_is_trained_and_its_head_predicts_what_was_written(corpus_root, tmp_path, monkeypatch) -> None:
    import numpy as np
    import torch

    from emoshare.backbones.base import load_backbone
    from emoshare.data.audio import read
    from emoshare.data.window import Window

    monkeypatch.chdir(tmp_path)
    overrides = ["data=compare23", f"data.root={corpus_root}", "backbone=logmel", "window.seconds=1", "logger=none"]
    results = emoshare.train(*overrides, "trainer.epochs=2", "trainer.precision=32-true", "extract.precision=float32")
    run = emoshare.load(tmp_path / "outputs/default" / results.run)
    files, shares = run.predictions("devel")
    window = Window.of(run.config.window)
    waves = torch.zeros(len(files), window.samples)
    for row, file in enumerate(files):
        cut = window.cut(read(corpus_root / "wav" / file))
        waves[row, : len(cut)] = torch.from_numpy(cut)
    frames, counts = load_backbone(run.config.backbone, run.config.window)(waves)
    with torch.no_grad():
        np.testing.assert_allclose(run.head()(frames, counts).numpy(), shares, atol=1e-5)


def test_mistakes_are_errors_with_a_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(emoshare.EmoshareError, match="no finished run here"):
        emoshare.load(tmp_path)
    with pytest.raises(emoshare.EmoshareError, match=r"window\.seconds"):
        emoshare.train("data=demo", "window.seconds=-1")
    with pytest.raises(emoshare.EmoshareError, match="at least one folder"):
        emoshare.report()


def test_plain_lightning_takes_ten_lines(tmp_path, monkeypatch) -> None:
    notebook = json.loads((Path(__file__).parents[1] / "notebooks/lightning.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells[1].splitlines()) == 10
    monkeypatch.chdir(tmp_path)  # and back at the end
    monkeypatch.setenv("EMOSHARE_ROOT", str(tmp_path))
    names: dict[str, Any] = {}
    exec("\n".join(cells), names)
    clips = names["corpus"].partitions["test"].files
    assert sum(len(shares) for _, shares in names["predictions"]) == len(clips) == 12
    assert "devel/avg" in names["scores"]


def test_a_sweep_returns_results_and_says_nothing(small, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("emoshare"), "handlers", [])
    keys = [key for key in small if not key.startswith("backbone=")] + ["sweep.parallel=1", "trainer.epochs=1"]
    found = emoshare.sweep(*keys, "backbone=logmel", "seed=0,1", "sweep.row=a", "+sweep.fuse.x={rows: [a], seeds: all}")
    assert [(results.system, results.seed) for results in found[:2]] == [("mlp", 0), ("mlp", 1)]
    assert [results.system for results in found[2:]] == ["fusion"]
    assert capsys.readouterr().out == ""
    assert emoshare.sweep(*keys, "backbone=logmel", "seed=0,1") == found[:2]
    with pytest.raises(
        emoshare.EmoshareError, match=r"hubert_base-1s-seed0-.*: backbone=hubert_base: facebook/.* is no folder"
    ):
        emoshare.sweep(*keys, "backbone=logmel,hubert_base")
    some = emoshare.sweep(*keys, "backbone=logmel,hubert_base", "sweep.skip_missing=true")
    assert some == found[:1]
    assert set(emoshare.status("outputs/default").values()) == {"done", "not at hand"}
    with pytest.raises(emoshare.EmoshareError, match=r"window\.seconds=0"):
        emoshare.sweep(*keys, "window.seconds=0,1")
