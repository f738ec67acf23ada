"""torchaudio beside a PyTorch without CUDA: the hook stands in only where the real extension fails."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.io.wavfile

TRY = """
import {first}
import torch, torchaudio, torchaudio.transforms
from transformers import Wav2Vec2Model
wave = torchaudio.functional.resample(torch.ones(1, 800), 8000, 16000)
mels = torchaudio.transforms.MelSpectrogram(n_mels=20)(wave)
smooth = torchaudio.functional.lfilter(wave, torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.2]))
print(wave.shape[1], mels.shape[1], smooth.shape[1])
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


def test_torchaudio_and_transformers_import_after_emoshare() -> None:
    assert run(TRY.format(first="emoshare")).stdout.split() == ["1600", "20", "1600"]


def test_loader_processes_have_the_hook_too(tmp_path) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", 8000, np.ones(4000, np.int16))  # read() resamples with torchaudio
    code = f"""
import multiprocessing
from emoshare.data.audio import read
with multiprocessing.get_context("forkserver").Pool(1) as pool:
    print(len(pool.apply(read, [{str(tmp_path / "a.wav")!r}])))
"""
    assert run(code).stdout.split() == ["8000"]


def test_a_working_extension_is_left_alone(tmp_path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension")
    (package / "_extension.py").write_text("_IS_TORCHAUDIO_EXT_AVAILABLE = 'real'")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import emoshare, torchaudio as t; "
    assert run(code + "print(t._extension._IS_TORCHAUDIO_EXT_AVAILABLE)").stdout.strip() == "real"


@pytest.mark.parametrize("error", ["SyntaxError", "ValueError"])
def test_other_errors_are_not_hidden(tmp_path, error: str) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension")
    (package / "_extension.py").write_text(f"raise {error}('broken')")
    result = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import emoshare, torchaudio")
    assert f"{error}: broken" in result.stderr
