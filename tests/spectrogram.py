"""A small Audio Spectrogram Transformer of transformers' own class, in the hub's format."""

from __future__ import annotations

from pathlib import Path

import torch
from encoders import shake

from emoshare.backbones.kinds.encoder import Options as Encoder

DIM, LAYERS = 32, 3


def write(folder: Path) -> Encoder:
    """The checkpoint with a classifier, and the config that takes its encoder by its path alone."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=DIM, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=48, num_mel_bins=128,
        max_length=256,
    )  # fmt: skip
    model = transformers.ASTForAudioClassification(config).eval()
    shake(model)
    model.save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=256).save_pretrained(folder)
    return Encoder(path=str(folder), type="auto")
