"""emotion2vec: frames are held against those that FunASR's own class gave for the same weights."""

import json
from dataclasses import replace
from pathlib import Path

import emotion2vec
import numpy as np
import pytest
import torch
import yaml
from emotion2vec import AUDIO, DEPTH, DIM, PRENET

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data.window import frame_count

NATIVE = WindowConfig(pad="none", normalize="checkpoint")
RECORDED = json.loads((Path(__file__).parent / "emotion2vec.json").read_text())["frames"]  # FunASR 1.4.16's
LAYERS = PRENET + DEPTH


def wave(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.01 + 0.003)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Encoder:
    return emotion2vec.write(tmp_path_factory.mktemp("library") / "emotion2vec_base")


@pytest.mark.parametrize("layout", ["funasr", "fairseq"])
def test_hidden_states_are_those_of_funasr(layout, tmp_path):
    config = emotion2vec.write(tmp_path / "model", layout)
    frames, counts = load_backbone(replace(config, layer="weighted"), NATIVE)(wave(3_000)[None])
    assert counts.tolist() == [frame_count(3_000)]
    for state, true in zip(frames[0].unflatten(1, (LAYERS + 1, DIM)).unbind(1), RECORDED, strict=True):
        np.testing.assert_allclose(state.flatten()[::7], true, atol=1e-5, rtol=0)
    for layer in ("last", str(LAYERS), "2"):
        found = load_backbone(replace(config, layer=layer), NATIVE)(wave(3_000)[None])[0]
        index = LAYERS if layer == "last" else int(layer)
        np.testing.assert_allclose(found.flatten()[::7], RECORDED[index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", ["last", "weighted"])
def test_a_clip_of_a_batch_is_the_clip_alone(layer, config):
    """Where FunASR's own mask of the padding changes frames by 0.7."""
    backbone = load_backbone(replace(config, layer=layer), NATIVE)
    waves = torch.full((4, 9_000), torch.nan)
    lengths = torch.tensor([9_000, 3_000, 400, 4_321])
    for row, n in enumerate(lengths.tolist()):
        waves[row, :n] = wave(n)
    frames, counts = backbone(waves, lengths)
    assert counts.tolist() == [frame_count(int(n)) for n in lengths]
    for clip, n, count in zip(frames, lengths.tolist(), counts.tolist(), strict=True):
        torch.testing.assert_close(clip[:count], backbone(wave(n)[None])[0][0], rtol=0, atol=1e-5)
        assert not clip[count:].any()


def test_by_path_alone(config, tmp_path):
    settled = settle(replace(config, type="auto"), NATIVE)
    assert (settled.type, settled.dim, settled.layers) == ("emotion2vec", DIM, LAYERS)
    found = load_backbone(replace(config, type="auto"), NATIVE).identity
    assert found == load_backbone(config, NATIVE).identity
    assert (found["class"], found["normalize"], found["mask"]) == ("Emotion2vecModel", True, True)
    other = load_backbone(emotion2vec.write(tmp_path / "emotion2vec_base", "fairseq"), NATIVE).identity
    assert other["weights"] == found["weights"]
    raw = emotion2vec.write(tmp_path / "raw", normalize=False)
    assert load_backbone(raw, NATIVE).identity["normalize"] is False


def test_half_precision_is_near(config):
    found, true = (
        load_backbone(config, NATIVE, kind)(wave(6_000)[None])[0] for kind in (torch.bfloat16, torch.float32)
    )
    assert found.dtype == torch.bfloat16
    assert (found.float() - true).square().mean().sqrt() < 0.03 * true.square().mean().sqrt()


def test_it_can_be_trained(config):
    backbone = load_backbone(replace(config, frozen=False, specaugment=True), NATIVE).train()
    backbone(wave(9_000)[None])[0].square().mean().backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in silent if "k_proj.bias" not in name and "masked_spec_embed" not in name] == []


def without(tensors, part):
    return {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, "blocks.1.mlp.fc1.bias"), r"without 2 encoder tensors: .*layers\.1\..*layers\.3\."),
        (lambda t: t | {"blocks.1.norm3.weight": torch.ones(2)}, r"has no place in Emotion2vecModel for 1 encoder"),
        (lambda t: t | {AUDIO + "new.weight": torch.ones(2)}, r"has no place in Emotion2vecModel for 1 encoder"),
        (lambda t: t | {"blocks.0.norm1.bias": torch.ones(2)}, r"holds in another shape 1"),
        (lambda t: without(t, AUDIO), r"holds 0 encoders whose tensors are called modality"),
    ],
)  # fmt: skip
def test_every_tensor_is_accounted_for(change, message, tmp_path):
    with pytest.raises(EmoshareError, match=message):
        load_backbone(emotion2vec.write(tmp_path / "model", change=change), NATIVE)


def test_other_architectures_and_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(EmoshareError, match=r"config\.yaml: layer_norm_first is True, which is no emotion2vec that is"):
        load_backbone(emotion2vec.write(tmp_path / "a", layer_norm_first=True), NATIVE)
    config = emotion2vec.write(tmp_path / "b")
    (tmp_path / "b/config.yaml").write_text("model: Paraformer\n")
    with pytest.raises(EmoshareError, match=r"config\.yaml: no config of emotion2vec .*; name a folder of emotion2vec"):
        load_backbone(config, NATIVE)
    config = emotion2vec.write(tmp_path / "c")
    torch.save({"model": {"x": Path("run me")}}, tmp_path / "c/model.pt")
    with pytest.raises(EmoshareError, match=r"model\.pt: can't be read as data alone"):
        load_backbone(config, NATIVE)
    (tmp_path / "c/model.pt").unlink()
    with pytest.raises(EmoshareError, match=r"holds 0 \.pt files, and none is called model\.pt"):
        load_backbone(config, NATIVE)
    with pytest.raises(EmoshareError, match=r"iic/x: is a name of ModelScope's; set backbone\.path=emotion2vec/x, as"):
        load_backbone(replace(config, path="iic/x"), NATIVE)


def test_the_file_is_the_one_that_modelscope_names(config, tmp_path):
    emotion2vec.write(tmp_path / "model")
    torch.save({}, tmp_path / "model/other.pt")
    (tmp_path / "model/model.pt").rename(tmp_path / "model/emotion2vec_base.pt")
    notes = {"file_path_metas": {"init_param": "emotion2vec_base.pt", "config": "config.yaml"}}
    (tmp_path / "model/configuration.json").write_text(json.dumps(notes))
    found = load_backbone(replace(config, path=str(tmp_path / "model")), NATIVE).identity
    assert found["weights"] == load_backbone(config, NATIVE).identity["weights"]


def test_the_config_is_read_as_data(tmp_path):
    config = emotion2vec.write(tmp_path / "model")
    spec = emotion2vec.CONFIG["modalities"]["audio"] | {"feature_encoder_spec": "__import__('os').system('false')"}
    values = {"model_conf": emotion2vec.CONFIG | {"modalities": {"audio": spec}}}
    (tmp_path / "model/config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(EmoshareError, match=r"config\.yaml: .*feature_encoder_spec is no list of convolutions.*; name"):
        load_backbone(config, NATIVE)


@pytest.mark.parametrize("group", ["emotion2vec", "auto"])
def test_the_command_takes_its_path_alone(group, emoshare, small, tmp_path):
    emotion2vec.write(tmp_path / "mine")
    settings = [word for word in small if not word.startswith("backbone=")]
    trained = emoshare("train", *settings, f"backbone={group}", f"backbone.path={tmp_path}/mine")
    assert trained.status == 0, trained.err
    [folder] = (path.parent.name for path in tmp_path.glob("outputs/default/*/results.json"))
    assert folder.startswith("mine-1s-seed0-")
