"""A trained encoder's SpecAugment and layerdrop are transformers' own, and nothing in evaluation."""

import checkpoints
import numpy as np
import pytest
import torch
import transformers
from checkpoints import FAMILIES
from composed import config as composed

from emoshare.backbones.base import load_backbone
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check

NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop"), 0.0
)
AUGMENT = {"mask_time_prob": 0.05, "mask_time_length": 10, "mask_feature_prob": 0.05, "mask_feature_length": 10}


def reference(folder, name, **values):
    """transformers' own model of a checkpoint, in training, without dropout."""
    kind = getattr(transformers, FAMILIES[name].stem + "Model")
    model = kind.from_pretrained(folder, dtype=torch.float32, **NO_DROPOUT | values).train()
    model.config.mask_feature_min_masks = 0  # the default of the others, which WavLM's config lacks
    return model


def ours(config, **keys):
    """Our encoder of the checkpoint, in training, without dropout."""
    for key, value in {"frozen": False, **keys}.items():
        setattr(config, key, value)
    backbone = load_backbone(config, WindowConfig()).train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):  # that attention hands on as a number
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    backbone.encoder.transformer.config.attention_dropout = 0.0
    return backbone


@pytest.mark.parametrize("name", ["wav2vec2_layer", "hubert", "wavlm", "unispeech_sat", "data2vec"])
def test_specaugment_is_transformers_own(name, tmp_path):
    config = checkpoints.write(tmp_path, name)
    model, backbone = reference(tmp_path, name, **AUGMENT), ours(config, specaugment=True)
    waves, before = torch.randn(3, 24_000) * 0.1, np.random.get_state()[1].copy()
    torch.manual_seed(5)
    frames = backbone(waves)[0]
    assert np.array_equal(np.random.get_state()[1], before)  # NumPy's own draws are left alone
    torch.manual_seed(5)
    np.random.seed(int(torch.randint(2**32, ())))
    torch.testing.assert_close(frames, model(waves).last_hidden_state, rtol=0, atol=2e-5)
    torch.manual_seed(5)
    torch.testing.assert_close(backbone(waves)[0], frames, rtol=0, atol=1e-6)  # a resumed run draws the same
    assert not torch.allclose(backbone(waves)[0], frames, atol=1e-3)
    plain = ours(config, specaugment=False)
    assert not torch.allclose(plain(waves)[0], frames, atol=1e-3)
    torch.testing.assert_close(plain.eval()(waves)[0], backbone.eval()(waves)[0], rtol=0, atol=0)
    assert plain.identity == backbone.identity
    backbone.train()(waves)[0].square().mean().backward()
    assert backbone.encoder.augment.masked_spec_embed.grad.abs().sum() > 0  # it is learned


@pytest.mark.parametrize(("layerdrop", "share"), [("0.5", 0.5), ("checkpoint", 0.4)])
@pytest.mark.parametrize("name", ["wav2vec2_layer", "hubert_group", "wavlm"])
def test_layerdrop_is_transformers_own(name, layerdrop, share, tmp_path):
    config = checkpoints.write(tmp_path, name)
    settings = tmp_path / "config.json"
    settings.write_text(settings.read_text().replace('"layerdrop": 0.1', '"layerdrop": 0.4'))
    off = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    model, backbone = reference(tmp_path, name, layerdrop=share, **off), ours(config, layerdrop=layerdrop)
    assert backbone.encoder.transformer.config.layerdrop == share
    waves, frames = torch.randn(2, 6_000) * 0.1, []
    for seed in range(8):
        torch.manual_seed(seed)
        frames.append(backbone(waves)[0])
        torch.manual_seed(seed)
        torch.testing.assert_close(frames[-1], model(waves).last_hidden_state, rtol=0, atol=2e-5)
    assert any(not torch.allclose(frames[0], other, atol=1e-3) for other in frames[1:])
    plain = ours(config, layerdrop=None)
    torch.testing.assert_close(plain.eval()(waves)[0], backbone.eval()(waves)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone.layerdrop=1", "backbone.frozen=false"], r"backbone\.layerdrop=1: must be "),
        (["backbone.layerdrop=much", "backbone.frozen=false"], r"backbone\.layerdrop=much: must be "),
        (["backbone.layerdrop=0.1", "backbone.frozen=false", "backbone.layer=weighted"], "a weighted sum needs all"),
    ],
)
def test_where_they_cannot_be(overrides, message):
    with pytest.raises(EmoshareError, match=message):
        check(composed(*overrides))
    check(composed("backbone.frozen=false", "backbone.specaugment=true", "backbone.layerdrop=checkpoint"))
