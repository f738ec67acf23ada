"""run.log holds what a run and its libraries said, and why it failed; the terminal is spared."""

from __future__ import annotations

from pathlib import Path


def only(folder: Path) -> Path:
    [run] = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return run


def test_a_run_keeps_its_details_in_its_log_alone(emoshare, small, tmp_path) -> None:
    result = emoshare("train", *small)
    assert result.status == 0, result.err
    log = (only(tmp_path / "outputs/default") / "run.log").read_text()
    for words in ("epoch 1/2", "epoch 2/2", "pytorch_lightning", "extracting: "):
        assert words in log
    for words in ("epoch 1/2", "GPU available", "Trainer", "LightningModule"):
        assert words not in result.out + result.err


def test_a_failed_run_says_why_in_its_log(emoshare, small, tmp_path) -> None:
    result = emoshare("train", *small, "optimizer.lr=1e30")
    assert result.status == 1
    log = (only(tmp_path / "outputs/default") / "run.log").read_text()
    assert "Traceback" in log
    assert "Traceback" not in result.out + result.err
    assert result.err.strip().removeprefix("emoshare: ") in log


def test_details_are_printed_when_they_are_asked_for(emoshare, small) -> None:
    result = emoshare("-v", "train", *small)
    assert result.status == 0, result.err
    assert "epoch 1/2" in result.out
