"""Whose turn it is on a GPU, and whose memory a peak is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composed import config

from emoshare.core import hardware as device
from emoshare.core.errors import EmoshareError


def test_every_run_claims_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"test-{number}"))
    free = config("trainer.device=null")
    with device.claim_gpu(free.trainer) as first:
        with device.claim_gpu(free.trainer) as second:
            assert {first, second} == {0, 1}
        with device.claim_gpu(free.trainer) as third:
            assert third == second
        with device.claim_gpu(config("trainer.device=1").trainer) as wanted:  # asked for: nothing to claim
            assert wanted == 1


def test_a_run_on_the_cpu_waits_for_no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="test-alone"))
    free, on_cpu = config("trainer.device=null"), config("trainer.device=null", "trainer.accelerator=cpu")
    with device.claim_gpu(free.trainer), device.claim_gpu(on_cpu.trainer) as number:
        assert number == 0


def test_a_machine_without_gpus_has_nothing_to_claim(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with device.claim_gpu(config("trainer.device=null").trainer) as number:
        assert number == 0


@pytest.mark.parametrize(("gpus", "words"), [(0, "no GPU here"), (1, "sees 1: 0 to 0"), (2, "sees 2: 0 to 1")])
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(monkeypatch, gpus, words) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(EmoshareError, match=f"trainer.device=99: .*{words}"):
        device.choose_device(config("trainer.device=99").trainer)
    assert device.choose_device(config("trainer.device=99", "trainer.accelerator=cpu").trainer).type == "cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the process")
def test_a_runs_peak_of_memory_is_its_own() -> None:
    cpu = torch.device("cpu")
    block = np.ones(2**26)  # 0.5 GB
    before = device.peak_memory(cpu)["host_peak_gb"]
    del block
    device.reset_peak_memory(cpu)
    after = device.peak_memory(cpu)["host_peak_gb"]
    assert before - after > 0.4
