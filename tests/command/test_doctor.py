"""`emoshare doctor` says what is there, and each problem with its remedy."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from importlib.metadata import version

import pytest

from emoshare.command import doctor


def test_a_whole_installation_has_no_problem(emoshare) -> None:
    outcome = emoshare("doctor")
    assert outcome.status == 0, outcome.out
    assert outcome.out.endswith("no problem found\n")
    assert re.search(rf"^Python +{re.escape(platform.python_version())} ", outcome.out, re.M)
    assert re.search(rf"^torch +{re.escape(version('torch'))}$", outcome.out, re.M)
    assert re.search(r"^device +(cpu|cuda:0|mps) \(trainer.accelerator=auto\)$", outcome.out, re.M)
    assert re.search(r"^precision +(float32|bfloat16|float16) \(extract.compute=auto\)$", outcome.out, re.M)
    assert re.search(r"^model hub +https://\S+ is not asked \(HF_HUB_OFFLINE\)$", outcome.out, re.M)
    assert re.search(r"^W&B +offline, (no key|a key is there)$", outcome.out, re.M)


def test_problems_have_a_remedy_each(emoshare, monkeypatch) -> None:
    real = importlib.metadata.version

    def pretend(name: str) -> str:
        if name in ("rich", "onnx"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name in ("numpy", "onnxruntime") else real(name)

    monkeypatch.setattr(importlib.metadata, "version", pretend)
    monkeypatch.setenv("WANDB_MODE", "nowhere")
    outcome = emoshare("doctor")
    assert outcome.status == 1
    told = [line for line in outcome.out.splitlines() if line.startswith("problem: ")]
    assert told == [
        'problem: numpy is 1.0; run `pip install "numpy>=2.0"`',
        'problem: rich is not installed; run `pip install "rich>=13.7"`',
        "problem: WANDB_MODE=nowhere: must be one of offline, online, disabled",
    ]
    assert re.search(r'^onnx +lacks onnx, a newer onnxruntime: pip install "emoshare\[onnx\]"$', outcome.out, re.M)


@pytest.mark.parametrize("error", [OSError("no route"), TimeoutError("timed out")])
def test_a_hub_that_does_not_answer_is_no_problem_of_the_installation(emoshare, monkeypatch, error) -> None:
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", fail)
    outcome = emoshare("doctor")
    assert outcome.status == 0
    assert f"cannot be reached ({error}): set backbone.path to a local folder" in outcome.out


def test_a_linked_checkpoint_counts_once(tmp_path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/a").write_bytes(b"12345")
    (tmp_path / "snapshot").symlink_to(tmp_path / "blobs/a")
    assert doctor.size(tmp_path) == 5
