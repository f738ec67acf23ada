"""Files of a stranger: each loader says what is wrong in one clear error, and runs nothing that is in them.

Every hostile pickle here would create a file if it was run; no test may find that file.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import emoshare as package
from emoshare.backbones.base import load_backbone
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import SEAL, seal
from emoshare.inference.export.hub import export_hub

CANARY = "canary"


class Hostile:
    """Pickled, it runs a command where it is read with Python's own pickle."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    path = tmp_path / CANARY
    yield path
    assert not path.exists(), "code from the file was run"


def test_the_canary_sings(tmp_path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / CANARY)))
    assert (tmp_path / CANARY).exists()


@pytest.fixture(scope="module")
def runs(corpus_root, tmp_path_factory) -> dict[str, Path]:
    """A run of each kind of head, and the folders that were exported from them."""
    base = ["data=compare23", f"data.root={corpus_root}", "window.seconds=1", "logger=none", "trainer.progress=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("safety"))
        found = {}
        for name, keys in {
            "mlp": ["backbone=tiny", "trainer.epochs=1", "backbone.frozen=false"],
            "svr": ["backbone=logmel", "head=svr", "head.grid=[0.01]"],
        }.items():
            results = package.train(*base, *keys)
            found[name] = Path("outputs/default", results.run).absolute()
            found[f"exported {name}"] = Path(name).absolute()
            export_hub(package.load(found[name]).bundle, found[f"exported {name}"])
        return found


@pytest.fixture
def copied(runs, tmp_path) -> Callable[[str], Path]:
    """A copy of one of `runs`, to do harm to."""
    return lambda name: Path(shutil.copytree(runs[name], tmp_path / "copy"))


def refused(folder: Path, *words: str) -> str:
    """The error of a folder that cannot be loaded and used, which must hold all the words."""
    with pytest.raises(EmoshareError) as caught:
        package.load(folder, device="cpu", cache=folder.parent / "cache").predict(np.zeros(16_000), 16_000)
    message = str(caught.value)
    assert all(word in message for word in words), message
    return message


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit a JSON file as one who knows how it is sealed."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content | ({SEAL: seal(content)} if SEAL in content else {})))


def test_a_run_with_a_pickled_object_for_a_checkpoint(copied, canary) -> None:
    folder = copied("mlp")
    change(folder / "results.json", lambda content: content["files"].clear())  # as one who makes all of the folder
    torch.save({"state_dict": {"head.x": Hostile(canary)}}, folder / "checkpoints/best.ckpt")
    refused(folder, "best.ckpt: not readable")
    (folder / "checkpoints/best.ckpt").write_bytes(pickle.dumps(Hostile(canary)))
    refused(folder, "best.ckpt: not readable")


def test_a_config_with_a_tag_of_python(copied, canary) -> None:
    folder = copied("mlp")
    (folder / "config.yaml").write_text(f"seed: !!python/object/apply:os.system ['touch {canary}']\n")
    with pytest.raises(EmoshareError, match=r"config\.yaml: not readable \(could not determine a constructor"):
        Config.load(folder / "config.yaml")
    (folder / "config.yaml").write_text("seed: " + "[" * 5000)
    with pytest.raises(EmoshareError, match=r"config\.yaml: not readable"):
        Config.load(folder / "config.yaml")


def test_a_backbone_with_pickled_weights(tmp_path, canary) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    (tmp_path / "model/model.safetensors").unlink()
    padding = torch.zeros(200_000)  # as many bytes as the weights would take
    torch.save({"encoder.x": Hostile(canary), "padding": padding}, tmp_path / "model/pytorch_model.bin")
    with pytest.raises(EmoshareError, match="its weights can't be read"):
        load_backbone(config, WindowConfig(seconds=1.0))
    (tmp_path / "model/pytorch_model.bin").write_bytes(pickle.dumps([Hostile(canary), bytes(200_000)]))
    with pytest.raises(EmoshareError, match="its weights can't be read"):
        load_backbone(config, WindowConfig(seconds=1.0))


def test_a_backbone_that_names_code_of_its_own(tmp_path, canary) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    (tmp_path / "model/evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    change(tmp_path / "model/config.json", lambda content: content.update(auto_map=names, trust_remote_code=True))
    load_backbone(config, WindowConfig(seconds=1.0))


def test_an_exported_backbone_with_pickled_weights(copied, canary) -> None:
    folder = copied("exported mlp")
    (folder / "backbone/model.safetensors").unlink()
    torch.save({"x": Hostile(canary), "padding": torch.zeros(200_000)}, folder / "backbone/pytorch_model.bin")
    refused(folder, "backbone", "can't be read")


def lying(path: Path, header: bytes, size: int | None = None) -> None:
    """A safetensors file with another header than its data."""
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + b"\0" * 16)


@pytest.mark.parametrize("name", ["mlp", "svr"])
@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b'{"shift": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4000000000]}}', None),
        (b'{"shift": {"dtype": "F32", "shape": [1152921504606846976], "data_offsets": [0, 16]}}', None),
        (b"{}", 2**63),
        (b'{"shift": ' + b"[" * 100_000, None),
        (b"\xff" * 64, None),
    ],
    ids=["offsets", "shape", "size", "nesting", "bytes"],
)
def test_safetensors_with_a_lying_header(name, header, size, copied) -> None:
    folder = copied(f"exported {name}")
    file = folder / {"mlp": "head.safetensors", "svr": "svr.safetensors"}[name]
    lying(file, header, size)
    refused(folder, file.name)


def test_tensors_of_another_head(copied) -> None:
    folder = copied("exported mlp")
    tensors = load_file(folder / "head.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    save_file(tensors | {name: tensors[name][:, :-1].copy()}, folder / "head.safetensors")
    refused(folder, "weights are of another head")


def test_a_head_of_a_size_that_no_memory_holds(copied) -> None:
    folder = copied("exported mlp")
    change(folder / "config.json", lambda content: content["config"]["head"].update(hidden=1_000_000))
    refused(folder, "weights are of another head")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", np.zeros((9, 7))),
        ("weights", np.zeros((8, 160))),
        ("shift", np.zeros(3)),
        ("bias", np.zeros((9, 1))),
        ("scale", np.full(160, np.nan)),
    ],
)
def test_an_svr_that_does_not_fit(name, value, copied) -> None:
    folder = copied("exported svr")
    save_svr(folder, {name: value}, {})
    refused(folder, "svr.safetensors")


@pytest.mark.parametrize(
    "noted",
    [
        {"pooling": '"os.system"'},
        {"pooling": "[" * 100_000},
        {"voicing": "-1"},
        {"voicing": "1000000"},
        {"pooling": "{}"},
    ],
    ids=["name", "nesting", "negative", "large", "dict"],
)
def test_an_svr_with_hostile_notes(noted, copied) -> None:
    folder = copied("exported svr")
    save_svr(folder, {}, noted)
    refused(folder, "svr.safetensors")


def save_svr(folder: Path, arrays: dict[str, np.ndarray], noted: dict[str, str]) -> None:
    from safetensors import safe_open

    from emoshare.models.svr import FACTS

    file = folder / "svr.safetensors"
    with safe_open(file, "np") as opened:
        facts = json.loads(opened.metadata()[FACTS])
    texts = {name: json.dumps(value) for name, value in facts.items()} | noted
    joined = ",".join(f'"{name}": {text}' for name, text in texts.items())
    save_file(load_file(file) | arrays, file, {FACTS: f"{{{joined}}}"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not readable"),
        ('{"format": ' * 100_000, "not readable"),
        ('{"format": 1, "config": {"seed": NaN}}', "NaN is no JSON"),
        ('{"format": 1, "config": [1]}', "not a model that emoshare exported"),
        ('{"format": 1, "config": {}, "results": null}', "not results of format"),
        ("\xff\xfe", "not readable"),
        ("9" * 10_000, "not readable"),
    ],
    ids=["lists", "objects", "NaN", "list", "null", "bytes", "number"],
)
def test_json_that_is_none(text, words, copied) -> None:
    folder = copied("exported svr")
    (folder / "config.json").write_text(text, encoding="latin-1")
    refused(folder, "config.json", words)


def test_a_config_that_is_too_large(copied) -> None:
    folder = copied("exported svr")
    with (folder / "config.json").open("a") as file:
        file.write(" " * 17 * 2**20)
    refused(folder, "config.json: more than 16 MB")


@pytest.mark.parametrize("path", ["/etc", "../../secrets", "~/model", "backbone/../../x", ".", "a/b/c", "file:///etc"])
def test_a_backbone_somewhere_on_this_machine(path, copied) -> None:
    folder = copied("exported mlp")
    change(folder / "config.json", lambda content: content["config"]["backbone"].update(path=path))
    refused(folder, f"config.json: backbone.path={path}: must be a hub name")


def test_parts_somewhere_on_this_machine(copied) -> None:
    folder, parts = copied("exported mlp"), [{"name": "a", "path": "/etc", "dim": 1}] * 2
    change(folder / "config.json", lambda content: content["config"]["backbone"].update(type="concat", parts=parts))
    refused(folder, "config.json: backbone.parts: must be empty")


@pytest.mark.parametrize("kind", ["os", "emoshare.api", "../evil", "__init__", "extractor", "checkpoint", "os;exit()"])
def test_a_backbone_type_that_is_no_backbone(kind, copied) -> None:
    folder = copied("exported mlp")
    change(folder / "config.json", lambda content: content["config"]["backbone"].update(type=kind))
    refused(folder, "backbone.type")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("targets", "Anger"), ("targets", []), ("targets", [1, 2]), ("targets", ["a", "a"]), ("system", "pickle"),
        ("run", "../x"), ("run", ""),
        ("backbone", {}), ("backbone", {"name": "x", "dim": -1, "layers": 1e9}), ("frames", None), ("metrics", []),
    ],
)  # fmt: skip
def test_results_of_another_kind(key, value, copied) -> None:
    folder = copied("exported mlp")
    change(folder / "config.json", lambda content: content["results"].update({key: value}))
    refused(folder, f"config.json: results.{key}")


def test_a_fusion_of_members_that_are_none(copied) -> None:
    for members in ([], [1], [{"weight": "1"}], [{"weight": 1}, {"weight": -1}]):
        folder = copied("exported svr")
        change(folder / "config.json", lambda content, m=members: content["results"].update(system="fusion", members=m))  # type: ignore[misc]
        refused(folder, "results.members")
        shutil.rmtree(folder)
    folder = copied("exported svr")
    one = [{"weight": 1.0, "run": "../../../etc", "folder": "/etc"}]
    change(folder / "config.json", lambda content: content["results"].update(system="fusion", members=one))
    refused(folder, str(folder / "members/0"))


def test_links_that_lead_out_of_the_folder(copied, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "config.json").write_text("{}")
    folder = copied("exported mlp")
    shutil.rmtree(folder / "backbone")
    (folder / "backbone").symlink_to(secret)
    refused(folder, "backbone: links to a file outside")
    (folder / "backbone").unlink()
    (folder / "members").symlink_to(".")
    refused(folder, "members: a link in place of a folder")
    (folder / "members").unlink()
    (folder / "backbone").mkdir()
    (folder / "backbone/config.json").symlink_to("../../secret/config.json")
    refused(folder, "backbone/config.json: links to a file outside")
    (folder / "backbone/config.json").unlink()
    os.mkfifo(folder / "backbone/config.json")
    refused(folder, "backbone/config.json: not a regular file")


def test_links_of_the_hubs_own_cache_are_followed(runs, tmp_path) -> None:
    blobs, folder = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/c0ffee"
    shutil.copytree(runs["exported svr"], blobs)
    folder.mkdir(parents=True)
    for name in ("config.json", "svr.safetensors"):
        (folder / name).symlink_to(f"../../blobs/{name}")
    assert package.load(folder, device="cpu", cache=tmp_path).predict(np.zeros(16_000), 16_000)
