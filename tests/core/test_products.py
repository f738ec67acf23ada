"""The precision that `auto` takes on a CPU: measured where there is a choice, remembered by processor."""

from __future__ import annotations

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from emoshare.core import products


@pytest.fixture(autouse=True)
def forgotten(monkeypatch, tmp_path):
    """Nothing is remembered, before and after."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    products.known_rates.cache_clear()
    yield tmp_path / "emoshare/products.json"
    products.known_rates.cache_clear()


@pytest.mark.parametrize(("bfloat16", "float32", "dtype"), [
    (154.0, 253.0, torch.float32),  # AVX-512 BF16 without AMX, as it was seen
    (480.0, 130.0, torch.bfloat16),
    (105.0, 100.0, torch.float32),  # hardly faster: float32 is the more exact
])  # fmt: skip
def test_the_faster_precision_is_taken_and_the_log_says_why(monkeypatch, caplog, bfloat16, float32, dtype):
    monkeypatch.setattr(products, "matrix_bf16", lambda: True)
    monkeypatch.setattr(products, "measure_rates", lambda: {"bfloat16": bfloat16, "float32": float32})
    assert products.fastest_dtype() == dtype
    with caplog.at_level("DEBUG", logger="emoshare"):  # of a later run in the same process
        assert products.fastest_dtype() == dtype
    assert f"{bfloat16:.0f} GFLOP/s in bfloat16 and {float32:.0f} in float32" in caplog.text


def test_it_is_measured_once_a_processor(monkeypatch, forgotten):
    measured = []
    rates = {"bfloat16": 2.0, "float32": 1.0}
    monkeypatch.setattr(products, "measure_rates", lambda: measured.append(1) or rates)
    assert products.load_rates() == products.load_rates() == rates
    assert len(measured) == 1
    monkeypatch.setattr(products, "processor", lambda: "another")
    products.load_rates()
    assert len(measured) == 2
    assert len(json.loads(forgotten.read_text())) == 2


def test_processes_that_start_together_agree(monkeypatch):
    """On a busy machine each would measure something else, and train its runs in another precision."""
    numbers, start = itertools.count(1), threading.Barrier(4)

    def measure() -> dict[str, float]:
        time.sleep(0.2)
        return {"bfloat16": float(next(numbers)), "float32": 1.0}

    monkeypatch.setattr(products, "measure_rates", measure)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: (start.wait(), products.load_rates())[1], range(4)))
    assert found == [{"bfloat16": 1.0, "float32": 1.0}] * 4


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"a": 1}', "null"])
def test_a_file_that_is_none_is_measured_again(monkeypatch, forgotten, content):
    forgotten.parent.mkdir()
    forgotten.write_text(content)
    monkeypatch.setattr(products, "measure_rates", lambda: {"bfloat16": 2.0, "float32": 1.0})
    assert products.load_rates()["bfloat16"] == 2.0
    assert len(json.loads(forgotten.read_text())) == 1


def test_without_instructions_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(products, "matrix_bf16", lambda: False)
    monkeypatch.setattr(products, "load_rates", lambda: pytest.fail("measured"))
    assert products.fastest_dtype() == torch.float32


def test_rates_are_of_this_machine():
    rates = products.measure_rates()
    assert set(rates) == {"bfloat16", "float32"}
    assert all(rate > 0 for rate in rates.values())


def test_what_cannot_be_remembered_is_measured(monkeypatch, tmp_path):
    rates = {"bfloat16": 2.0, "float32": 1.0}
    monkeypatch.setattr(products, "measure_rates", lambda: rates)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert products.load_rates() == rates

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(products.Path, "home", no_home)
    assert products.load_rates() == rates
