"""OpenVINO's runtime in this process: signals are heard after models are gone."""

import subprocess
import sys

import pytest

SIGNAL = """
import os, signal
from emoshare.inference.export.openvino import core, openvino
import numpy as np
from openvino import opset13 as ops

value = ops.parameter([1], np.float32)
model = openvino().Model([ops.abs(value)], [value], "abs")
first, second = core().compile_model(model, "CPU"), core().compile_model(model, "CPU")
assert first([np.float32([-1])])[0] == second([np.float32([-1])])[0] == 1
del first
del second
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
os.kill(os.getpid(), signal.SIGTERM)
assert heard
print("alive")
"""


def test_a_signal_is_heard_after_models_are_gone():
    """Ctrl-C, or the end of a process that loads clips: with a Core for each model, Python dies of it."""
    pytest.importorskip("openvino")
    run = subprocess.run([sys.executable, "-c", SIGNAL], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr
