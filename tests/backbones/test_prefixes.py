"""An encoder inside a model that was made from it: its tensors stand below a prefix, among those of other parts."""

import json
from dataclasses import replace
from pathlib import Path

import checkpoints
import pytest
import torch

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

PAPER = WindowConfig(pad="zeros", normalize="none")


def below(folder: Path, *prefixes: str, family: str = "wavlm", write=checkpoints.write) -> Encoder:
    """A checkpoint whose encoder stands below each of some prefixes, beside a classifier."""
    config = write(folder, family)
    checkpoints.edit(
        folder,
        lambda tensors: (
            {p + name: t.clone() for p in prefixes for name, t in tensors.items()}
            | {"classifier.encoder.weight": torch.ones(2), "pooling.sap_linear.weight": torch.ones(2)}
        ),
    )
    return config


@pytest.mark.parametrize("prefix", ["ssl_model.", "backbone_model.", "wav2vec2.", "model.wavlm.", ""])
@pytest.mark.parametrize("given", [False, True])
def test_the_encoder_is_found_below_a_prefix(prefix, given, tmp_path):
    plain = load_backbone(checkpoints.write(tmp_path / "plain", "wavlm"), PAPER).identity
    config = below(tmp_path / "model", prefix)
    found = load_backbone(replace(config, prefix=prefix if given else None), PAPER).identity
    assert found == plain | {"path": config.path}
    by_path = load_backbone(Encoder(path=config.path, type="auto", prefix=prefix.rstrip(".") if given else None), PAPER)
    assert by_path.identity == found | {"name": "model"}


def test_tensors_below_it_are_accounted_for(tmp_path):
    config = below(tmp_path / "model", "ssl_model.")
    checkpoints.edit(tmp_path / "model", lambda t: {n: v for n, v in t.items() if "layers.1.feed_forward" not in n})
    with pytest.raises(EmoshareError, match=r"is without 4 encoder tensors: encoder\.layers\.1\.feed_forward"):
        load_backbone(config, PAPER)
    config = below(tmp_path / "other", "ssl_model.")
    checkpoints.edit(tmp_path / "other", lambda t: t | {"ssl_model.encoder.layers.0.adapter.weight": torch.ones(2)})
    with pytest.raises(
        EmoshareError, match=r"has no place in WavLMModel for 1 encoder tensors: encoder\.layers\.0\.ad"
    ):
        load_backbone(config, PAPER)


def test_several_are_named_and_one_can_be_chosen(tmp_path):
    config = below(tmp_path / "model", "student.", "teacher.")
    message = r"holds 2 encoders of this kind; set backbone\.prefix=student\. or backbone\.prefix=teacher\.$"
    with pytest.raises(EmoshareError, match=message):
        load_backbone(config, PAPER)
    load_backbone(replace(config, prefix="teacher"), PAPER)
    with pytest.raises(
        EmoshareError, match=r"prefix=ema: no tensor in .* begin with classifier\., pooling\., student\., "
    ):
        load_backbone(replace(config, prefix="ema"), PAPER)


def test_weights_of_older_pytorch_below_a_prefix(tmp_path):
    plain = load_backbone(checkpoints.write(tmp_path / "plain", "legacy"), PAPER).identity
    config = checkpoints.write(tmp_path / "model", "legacy")
    file = tmp_path / "model/pytorch_model.bin"
    torch.save({f"ssl_model.{name}": tensor for name, tensor in torch.load(file).items()}, file)
    assert load_backbone(config, PAPER).identity == plain | {"path": config.path}


def test_a_model_of_other_code_takes_the_sizes_of_a_named_backbone(tmp_path):
    """Whose config.json says what it is, and nothing of its encoder."""
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
    checkpoints_dim, checkpoints.SIZES = checkpoints.SIZES, checkpoints.SIZES | small | {"conv_dim": [512] * 7}
    checkpoints.SIZES |= {"num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16, "num_buckets": 320}
    checkpoints.SIZES |= {"max_bucket_distance": 800}
    try:
        below(tmp_path / "model", "ssl_model.")
    finally:
        checkpoints.SIZES = checkpoints_dim
    values = {"model_type": "ser", "auto_map": {"AutoModel": "model.SER"}, "ssl_type": "microsoft/wavlm-large"}
    (tmp_path / "model/config.json").write_text(json.dumps(values))
    named = Encoder("named", str(tmp_path / "model"), type="wavlm", dim=64, layers=2, conv_norm="layer")
    assert load_backbone(named, PAPER).width == 64
    with pytest.raises(
        EmoshareError, match=r"model_type is ser, .*; of a model that was made from one of these choose"
    ):
        settle(Encoder(path=named.path, type="auto"), PAPER)
    with pytest.raises(EmoshareError, match=r"is without|another shape"):
        load_backbone(replace(named, layers=3), PAPER)
