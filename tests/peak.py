"""Peak memory of the encoder inside a sharded audio language model: `python tests/peak.py 2000` (MB) prints it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import inner
import torch

from emoshare.backbones.base import load_backbone
from emoshare.core.config import WindowConfig

ENCODER = {"d_model": 256, "encoder_ffn_dim": 2048, "encoder_layers": 8}  # 42 MB
WIDE = {"hidden_size": 640, "intermediate_size": 5000, "num_attention_heads": 10, "head_dim": 64}  # 45 MB a layer


def write(folder: Path, megabytes: float, shard: str = "100MB") -> None:
    """A small model, and one whose language model takes that much, in shards."""
    inner.write(folder / "small", "qwen2_audio")
    layers = round(megabytes / 45)
    inner.write(folder / "large", "qwen2_audio", WIDE | {"num_hidden_layers": layers}, shard=shard, **ENCODER)


def growth(folder: Path) -> tuple[float, float]:
    """MB by which the large encoder's frames raise the peak of this process, and MB of its parameters."""
    peaks = []
    for name in ("small", "large"):  # the first one imports what both need
        window = WindowConfig(pad="none", normalize="checkpoint")
        config = inner.Encoder(path=str(folder / name), type="auto").settle_from(window)
        backbone = load_backbone(config, window)
        backbone(torch.zeros(1, 16_000))
        status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage has the peak of the parent, too
        peaks.append(int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) * 1024 / 1e6)
    return peaks[1] - peaks[0], sum(p.numel() * p.element_size() for p in backbone.parameters()) / 1e6


def measure(folder: Path) -> tuple[float, float]:
    """`growth` in a process of its own."""
    command = [sys.executable, __file__, str(folder)]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    peak, encoder = map(float, run.stdout.split())
    return peak, encoder


if __name__ == "__main__":
    if not sys.argv[1].replace(".", "").isdigit():
        print(*growth(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), float(sys.argv[1]))
            size = sum(path.stat().st_size for path in Path(place, "large").iterdir()) / 1e6
            files = len(list(Path(place, "large").glob("*.safetensors")))
            peak, encoder = measure(Path(place))
        print(
            f"{size:.0f} MB in {files} files: the encoder has {encoder:.0f} MB, its frames take {peak:.0f} MB at most"
        )
