"""A low-rank adapter beside a checkpoint, merged on request: the frames are those of peft's own merged model."""

from dataclasses import replace
from pathlib import Path

import checkpoints
import pytest
import torch

from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

peft = pytest.importorskip("peft")
PAPER = WindowConfig(pad="zeros", normalize="none")


def adapt(folder: Path, model, **keys) -> torch.nn.Module:
    """Write an adapter of a model into a folder; the merged model."""
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=7, init_lora_weights=False, **keys))
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


@pytest.mark.parametrize("task", [False, True])
def test_merged_frames_are_pefts(task, tmp_path):
    """Trained on the bare encoder, or on a model for a task around it, with a head that is left out."""
    import transformers

    config = checkpoints.write(tmp_path / "model", "hubert_group" if task else "hubert")
    kind = transformers.HubertForCTC if task else transformers.HubertModel
    heads = {"modules_to_save": ["lm_head"]} if task else {}
    merged = adapt(
        tmp_path / "model", kind.from_pretrained(config.path).eval(), target_modules=["q_proj", "v_proj"], **heads
    )
    plain = load_backbone(checkpoints.write(tmp_path / "plain", "hubert_group" if task else "hubert"), PAPER)
    wave = torch.randn(1, 5_000)
    with pytest.raises(EmoshareError, match=r"low-rank adapter .*set backbone\.adapter=merge where"):
        load_backbone(config, PAPER)
    found = load_backbone(replace(config, adapter="merge"), PAPER)
    with torch.no_grad():
        true = (merged.hubert if task else merged)(wave).last_hidden_state
    torch.testing.assert_close(found(wave)[0], true, rtol=0, atol=2e-5)
    assert (found(wave)[0] - plain(wave)[0]).abs().max() > 0.05
    assert found.identity["weights"] != plain.identity["weights"]


BESIDE = [
    {"bias": "all"}, {"bias": "lora_only"}, {"modules_to_save": ["layer_norm"]}, {"use_dora": True},
    {"modules_to_save": ["feature_projection"], "alpha_pattern": {"^hubert.encoder.layers.1.*q_proj": 1}},
    {"rank_pattern": {"layers.0.attention.q_proj": 2}, "use_rslora": True},
]  # fmt: skip


@pytest.mark.parametrize("keys", BESIDE, ids=str)
@pytest.mark.parametrize("task", [False, True])
def test_what_an_adapter_has_beside_its_products_is_taken_over(task, keys, tmp_path):
    """Biases, norms and other parts of the encoder that were trained with it; patterns of names in a larger model."""
    import transformers

    config = checkpoints.write(tmp_path / "model", "hubert_group" if task else "hubert")
    kind = transformers.HubertForCTC if task else transformers.HubertModel
    settings = peft.LoraConfig(r=3, init_lora_weights=False, target_modules=["q_proj", "v_proj"], **keys)
    adapted = peft.get_peft_model(kind.from_pretrained(config.path), settings)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    adapted.save_pretrained(tmp_path / "model")
    wave, merged = torch.randn(1, 5_000), adapted.merge_and_unload().eval()
    with torch.no_grad():
        true = (merged.hubert if task else merged)(wave).last_hidden_state
    found = load_backbone(replace(config, adapter="merge"), PAPER)(wave)[0]
    torch.testing.assert_close(found, true, rtol=0, atol=2e-5)


def test_what_cannot_be_merged_is_refused(tmp_path, monkeypatch):
    import transformers

    config = replace(checkpoints.write(tmp_path / "model", "hubert"), adapter="merge")
    wavlm = transformers.WavLMModel.from_pretrained(checkpoints.write(tmp_path / "wavlm", "wavlm").path)
    adapt(tmp_path / "model", wavlm, target_modules=["gru_rel_pos_linear"])
    with pytest.raises(EmoshareError, match=r"the adapter's tensors .*gru_rel_pos_linear.* belong to no layer"):
        load_backbone(config, PAPER)
    hubert = transformers.HubertModel(transformers.HubertConfig(**checkpoints.SIZES | {"hidden_size": 64}))
    adapt(tmp_path / "model", hubert, target_modules=["q_proj"])
    with pytest.raises(EmoshareError, match=r"model: the adapter's tensors have other shapes than the encoder's"):
        load_backbone(config, PAPER)
    (tmp_path / "alone").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "model" / name).rename(tmp_path / "alone" / name)
    with pytest.raises(
        EmoshareError, match=r"adapter=merge: .* lacks adapter_config\.json, or config\.json and the weights"
    ):
        load_backbone(replace(config, path=str(tmp_path / "alone")), PAPER)
    load_backbone(config, PAPER)  # nothing to merge any more
    for text, reason in {
        "{}": r"adapter_config\.json: the adapter can't be read \(it names no peft_type\)",
        '{"peft_type": "LORA"}': r"adapter_config\.json: the adapter can't be read \(its weights are not beside it\)",
        "[1]": r"adapter_config\.json: not readable",
    }.items():
        (tmp_path / "model/adapter_config.json").write_text(text)
        with pytest.raises(EmoshareError, match=reason):
            load_backbone(config, PAPER)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmoshareError, match=r'adapter=merge: needs peft; pip install "emoshare\[lora\]"'):
        load_backbone(config, PAPER)


def test_by_path_alone(tmp_path):
    import transformers

    config = checkpoints.write(tmp_path / "model", "wavlm")
    adapt(
        tmp_path / "model", transformers.WavLMModel.from_pretrained(config.path), target_modules=["intermediate_dense"]
    )
    found = load_backbone(Encoder(path=config.path, type="auto", adapter="merge"), PAPER).identity
    assert found == load_backbone(replace(config, adapter="merge", name="model"), PAPER).identity
