"""Whose turn it is on a GPU, and whose memory a peak is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emoshare import device


def test_every_run_claims_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"test-{number}"))
    with device.claimed(None) as first:
        with device.claimed(None) as second:
            assert {first, second} == {0, 1}
        with device.claimed(None) as third:
            assert third == second
        with device.claimed(1) as wanted:  # asked for, and nobody is asked
            assert wanted == 1


def test_a_machine_without_gpus_has_nothing_to_claim(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with device.claimed(None) as number:
        assert number == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the process")
def test_a_runs_peak_of_memory_is_its_own() -> None:
    cpu = torch.device("cpu")
    block = np.ones(2**26)  # 0.5 GB
    before = device.peak_memory(cpu)["host_peak_gb"]
    del block
    device.forget_peak(cpu)
    after = device.peak_memory(cpu)["host_peak_gb"]
    assert before - after > 0.4
