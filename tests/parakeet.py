"""A small Parakeet of transformers' own class, in the hub's format."""

from __future__ import annotations

from pathlib import Path

import torch
from encoders import shake

from emoshare.backbones.kinds.encoder import Options as Encoder

DIM, LAYERS = 32, 3


def write(folder: Path) -> Encoder:
    """The checkpoint, and the config that takes its encoder by its path alone."""
    import transformers

    torch.manual_seed(0)
    sizes = {
        "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
        "conv_kernel_size": 5, "subsampling_conv_channels": 8, "num_mel_bins": 80,
    }  # fmt: skip
    model = transformers.ParakeetForCTC(transformers.ParakeetCTCConfig(encoder_config=sizes, vocab_size=20)).eval()
    shake(model)
    model.save_pretrained(folder)
    transformers.ParakeetFeatureExtractor().save_pretrained(folder)
    return Encoder(path=str(folder), type="auto")
