"""A checkpoint by its path alone: everything is read from it, and what it does not say is asked for at once."""

import json
from dataclasses import replace
from pathlib import Path

import checkpoints
import pytest
from checkpoints import FAMILIES
from composed import config as composed

from emoshare.backbones import auto
from emoshare.backbones.auto import name_of, settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.command.compose import compose_one
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import MISSING

PAPER = WindowConfig(pad="zeros", normalize="none")
NATIVE = WindowConfig(pad="none", normalize="checkpoint")


def by_path(path: Path | str, **keys) -> Encoder:
    return Encoder(path=str(path), type="auto", **keys)


def rewrite(file: Path, drop: tuple[str, ...] = (), **keys) -> None:
    values = json.loads(file.read_text()) | keys
    file.write_text(json.dumps({key: value for key, value in values.items() if key not in drop}))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_path_says_what_a_whole_config_says(name, tmp_path):
    whole = checkpoints.write(tmp_path / "model", name)
    settled = settle(by_path(whole.path), NATIVE)
    assert settled == replace(whole, name="model")
    assert settle(settled, NATIVE) is settled
    identities = [load_backbone(c, NATIVE).identity for c in (whole, by_path(whole.path))]
    assert identities[1] == identities[0] | {"name": "model"}


def test_on_the_command_line(tmp_path, corpus_root):
    whole = checkpoints.write(tmp_path / "my model", "audeering")
    line = ["data=compare23", f"data.root={corpus_root}", "backbone=auto", "window=native"]
    config = compose_one([*line, f"backbone.path='{whole.path}'", "backbone.layer=weighted"])
    assert config.backbone == replace(whole, name="my model", layer="weighted")
    with pytest.raises(EmoshareError, match=r"^backbone\.path is not set: .*; add backbone\.path=<value>$"):
        compose_one(line)
    with pytest.raises(EmoshareError, match=r"^backbone\.layer=4: my model has the layers 0 to 3$"):
        compose_one([*line, f"backbone.path='{whole.path}'", "backbone.layer=4"])
    with pytest.raises(EmoshareError, match=r"^backbone\.path=/no/such: no such folder; .*\nloss: all weights are 0"):
        compose_one([*line, "backbone.path=/no/such", "loss.ccc=0"])


def test_a_name_can_be_given_and_what_is_given_is_held_against_the_checkpoint(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "wavlm")
    assert settle(by_path(whole.path, name="mine"), PAPER).name == "mine"
    with pytest.raises(EmoshareError) as caught:
        settle(by_path(whole.path, dim=64, layers=2, conv_norm="group", normalize=False, parameters=5), PAPER)
    count = load_backbone(whole, PAPER).identity["parameters"]
    assert str(caught.value) == (
        f"{whole.path}: hidden_size is 32, but backbone.dim=64; num_hidden_layers is 3, but backbone.layers=2; "
        "feat_extract_norm is layer, but backbone.conv_norm=group; do_normalize is true, but backbone.normalize=false; "
        f"the number of its parameters is {count}, but backbone.parameters=5; set backbone.dim=32 backbone.layers=3 "
        f"backbone.conv_norm=layer backbone.normalize=true backbone.parameters={count}, or choose the backbone auto, "
        "which reads a checkpoint's own values"
    )


def test_another_position_embedding_than_the_config_says(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "conformer_rope")
    message = r"position_embeddings_type is rotary, but backbone\.architecture\.position_embeddings_type=relative; set"
    with pytest.raises(EmoshareError, match=message):
        load_backbone(replace(whole, architecture={"position_embeddings_type": "relative"}), PAPER)
    load_backbone(replace(whole, architecture={"position_embeddings_type": "rotary"}), PAPER)


def test_a_listed_backbone_with_another_folder_says_all_that_differs_at_once(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "wavlm")
    config = replace(composed("backbone=wav2vec2_base").backbone, path=whole.path)
    with pytest.raises(EmoshareError) as caught:
        load_backbone(config, PAPER)
    for key in ("type=wavlm", "dim=32", "layers=3", "conv_norm=layer", "parameters="):
        assert f"backbone.{key}" in str(caught.value).partition("; set ")[2]
    assert "\n" not in str(caught.value)


def test_all_that_a_checkpoint_does_not_say_is_asked_for_at_once(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "hubert", preprocessor=False)
    asked = r"no preprocessor_config\.json at hand, .*set backbone\.normalize=true or false"
    with pytest.raises(EmoshareError, match=asked):
        settle(by_path(whole.path), NATIVE)
    settled = settle(by_path(whole.path, normalize=True), NATIVE)
    assert load_backbone(settled, NATIVE).identity["mask"] is True
    settle(by_path(whole.path), PAPER)  # which does not need it


def test_a_config_without_model_type_asks_for_it(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "hubert")
    rewrite(tmp_path / "model/config.json", drop=("model_type",))
    with pytest.raises(
        EmoshareError, match=r"names no model_type; set backbone\.type to the one it is of, of wav2vec2, "
    ):
        settle(by_path(whole.path), PAPER)
    assert settle(replace(by_path(whole.path), type="hubert"), PAPER) == replace(whole, name="model")
    config = settle(by_path(checkpoints.write(tmp_path / "b", "wavlm").path), PAPER)
    rewrite(tmp_path / "b/config.json", drop=("model_type",))
    with pytest.raises(EmoshareError, match="has no place in Wav2Vec2Model"):
        load_backbone(replace(config, type="wav2vec2"), PAPER)


def test_the_preprocessor_of_newer_transformers_lies_in_another_file(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "hubert")
    old = tmp_path / "model/preprocessor_config.json"
    new = {"feature_extractor": json.loads(old.read_text()), "processor_class": "Wav2Vec2Processor"}
    (tmp_path / "model/processor_config.json").write_text(json.dumps(new))
    before = load_backbone(whole, NATIVE).identity
    old.unlink()
    assert load_backbone(whole, NATIVE).identity == before
    assert before["mask"] is before["normalize"] is True


def test_another_sampling_rate_is_refused(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "hubert")
    rewrite(tmp_path / "model/preprocessor_config.json", sampling_rate=24_000)
    with pytest.raises(EmoshareError, match=r"sampling_rate is 24000; name a checkpoint that was trained at 16000"):
        settle(by_path(whole.path), PAPER)


def test_what_is_built_in_has_a_name_of_its_own():
    for path in ("tiny", "logmel", "prosody"):
        with pytest.raises(EmoshareError, match=rf"backbone\.path={path}: is built in; choose the backbone {path}"):
            settle(by_path(path), PAPER)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("facebook/hubert-large-ll60k", "hubert-large-ll60k"),
        ("/models/wav2vec2/", "wav2vec2"),
        ("~/x/.hidden", "hidden"),
        ("/c/hub/models--openai--whisper-base/snapshots/0123abc", "whisper-base"),
        ("/c/hub/models--gpt2/snapshots/0123abc/", "gpt2"),
        ("/" + "n" * 200, "n" * 100),
    ],
)
def test_names(path, name):
    assert name_of(path) == name


def test_the_name_of_the_folder_one_stands_in(tmp_path, monkeypatch):
    (tmp_path / "base" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "base")
    assert name_of(".") == name_of("sub/..") == "base"


def test_what_was_read_is_remembered_for_when_the_folder_is_gone(tmp_path):
    whole = checkpoints.write(tmp_path / "model", "data2vec")
    other = checkpoints.write(tmp_path / "other", "wavlm")
    settled = settle(by_path(whole.path), PAPER, tmp_path / "cache")
    (tmp_path / "model").rename(tmp_path / "gone")
    assert settle(by_path(whole.path), PAPER, tmp_path / "cache") == settled == replace(whole, name="model")
    with pytest.raises(EmoshareError, match="no such folder"):
        settle(by_path(whole.path, layer="1"), PAPER)
    (tmp_path / "other").rename(tmp_path / "model")
    changed = settle(by_path(whole.path), PAPER, tmp_path / "cache")
    assert changed == replace(other, name="model", path=whole.path)
    (tmp_path / "model").rename(tmp_path / "other")
    assert settle(by_path(whole.path), PAPER, tmp_path / "cache") == changed
    (tmp_path / "model").mkdir()
    with pytest.raises(EmoshareError, match=r"no config\.json in it"):
        settle(by_path(whole.path), PAPER, tmp_path / "cache")


def test_a_finished_run_is_found_without_its_checkpoint(emoshare, corpus_root, tmp_path):
    whole = checkpoints.write(tmp_path / "model", "wavlm")
    line = [
        "train", "data=compare23", f"data.root={corpus_root}", "backbone=auto", f"backbone.path={whole.path}",
        "window.seconds=0.5", "trainer.epochs=1", "trainer.progress=false", "logger=none",
    ]  # fmt: skip
    assert emoshare(*line).status == 0
    (tmp_path / "model").rename(tmp_path / "gone")
    again = emoshare(*line)
    assert again.status == 0, again.err
    assert "finished" in again.out + again.err
    assert len(list((tmp_path / "outputs/default").glob("model-0.5s-*"))) == 1


def test_nothing_is_read_where_all_is_said(monkeypatch):
    monkeypatch.setattr(auto, "config_folder", lambda config: pytest.fail("it looks for the checkpoint"))
    config = composed("backbone=hubert_large").backbone
    assert settle(config, PAPER) is config
    assert settle(Encoder(path=MISSING, type="auto"), PAPER).path == MISSING
