"""Damaged files, and wrong values in files of strangers: one clear error, or the very same model."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import emoshare as package
from emoshare.backbones.base import load_backbone
from emoshare.core import hashing
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import SEAL, seal, write_sealed
from emoshare.inference.export.hub import export_hub
from emoshare.training.fusion import fuse

WAVE = (np.sin(np.arange(16_000) / 20) * 0.3).astype(np.float32)
WRONG = (None, [], [1], "x", -1, 0, 10**12, 1.5, True, {"a": 1}, [[[1]]], [1] * 20_000)
GONE = object()


@pytest.fixture(scope="module")
def runs(corpus_root, tmp_path_factory) -> dict[str, Path]:
    """A run of each kind, and the folders that were exported from them."""
    base = ["data=compare23", f"data.root={corpus_root}", "window.seconds=1", "logger=none", "trainer.progress=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("integrity"))
        mlp = package.train(*base, "backbone=tiny", "trainer.epochs=1", "train.refit=true")
        svr = package.train(*base, "backbone=logmel", "head=svr", "head.grid=[0.01]", "head.scalers=[standard]")
        found = {name: Path("outputs/default", run.run).absolute() for name, run in {"mlp": mlp, "svr": svr}.items()}
        fused = fuse([found["mlp"], found["svr"]], found["mlp"].parent)
        found["fusion"] = found["mlp"].parent / fused.run
        for name in tuple(found):
            found[f"exported {name}"] = Path(name).absolute()
            export_hub(package.load(found[name]).bundle, found[f"exported {name}"])
        return found


@pytest.fixture
def copied(runs, tmp_path) -> Callable[[str], Path]:
    """A copy of one of `runs`, to do harm to; of a run with the others beside it."""

    def copy(name: str) -> Path:
        whole = runs[name] if name.startswith("exported") else runs[name].parent
        shutil.copytree(whole, tmp_path / whole.name)
        return tmp_path / whole.name / ("" if whole == runs[name] else runs[name].name)

    return copy


def shares(folder: Path) -> dict[str, float]:
    found = package.load(folder, device="cpu", cache=folder.parent / "cache").predict(WAVE, 16_000)
    assert isinstance(found, dict)
    return found


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 8
    path.write_bytes(content)


def same_json(content: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(content) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mlp", "checkpoints/refit.ckpt"), ("mlp", "results.json"), ("svr", "svr.safetensors"),
        ("fusion", "results.json"),
        ("exported mlp", "head.safetensors"), ("exported mlp", "config.json"), ("exported svr", "svr.safetensors"),
        ("exported fusion", "config.json"), ("exported fusion", "members/1/config.json"),
    ],
)  # fmt: skip
def test_a_changed_bit_in_what_a_model_is_read_from(copied, name, file) -> None:
    folder = copied(name)
    path, expected = folder / file, shares(folder)
    whole = path.read_bytes()
    for at in random.Random(0).sample(range(len(whole)), 8):
        flip(path, at)
        if path.suffix == ".json" and same_json(path.read_bytes(), whole):
            continue  # a digit beyond what a float holds
        with pytest.raises(EmoshareError, match=path.name):
            shares(folder)
        path.write_bytes(whole)
    assert shares(folder) == expected


def test_the_config_of_a_finished_run_is_that_of_its_results(copied) -> None:
    folder = copied("mlp")
    expected, path = shares(folder), folder / "config.yaml"
    path.write_text(path.read_text().replace("seconds: 1.0", "seconds: 3.0"))
    assert shares(folder) == expected


@pytest.mark.parametrize("file", ["predictions/devel.csv", "reference/devel.csv", "predictions/test.csv"])
def test_a_changed_digit_in_a_table_is_neither_reported_nor_fused(copied, emoshare, file) -> None:
    folder = copied("mlp")
    path = folder / file
    text = path.read_text()
    at = text.index(",0.") + 3
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    other = next(path for path in folder.parent.glob("logmel*"))
    commands = [["report", str(folder)], ["fuse", str(folder), str(other), "--out", "x"]]
    for command in commands[: 1 if "reference" in file else 2]:  # a fusion has its labels from one member
        result = emoshare(*command)
        assert result.status == 1
        assert (
            f"{path}: not readable (damaged, or changed: its content is not what was written); force=true" in result.err
        )


def change_a_digit(path: Path, after: str) -> None:
    text = path.read_text()
    at = text.index(after) + len(after)
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


@pytest.mark.parametrize(
    ("file", "after"), [("metrics.csv", "\n0,0."), ("sources.json", '"corpus": "'), ("groups", "\n")]
)
def test_a_changed_digit_in_what_the_report_reads_beside_the_scores(copied, emoshare, file, after) -> None:
    folder = copied("mlp")
    path = folder / file
    if file == "groups":
        path = path / "devel.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("filename,speaker\n1.wav,1\n")
        hashing.write_digests(path.parent)
    if file == "sources.json":
        write_sealed(path, json.loads(path.read_text()) | {"corpus": "1234"})
    change_a_digit(path, after)
    result = emoshare("report", str(folder))
    assert result.status == 1
    assert f"{path}: not readable (damaged, or changed: its content is not what was written);" in result.err


def test_files_that_other_programs_have_written_again_are_not_damaged(copied, emoshare) -> None:
    """git and editors change line endings; jq and JavaScript write 1.0 as 1, and other spaces."""
    folder = copied("mlp")
    expected = shares(folder)
    for path in folder.rglob("*.csv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text(), parse_float=shortest), indent=4, ensure_ascii=False))
    assert emoshare("report", str(folder)).status == 0
    assert shares(folder) == expected


def shortest(number: str) -> float | int:
    value = float(number)
    return int(value) if value.is_integer() else value


def copied_beside(folder: Path) -> Path:
    return next(path for path in folder.parent.iterdir() if "svr" in path.name and not path.name.startswith("fusion"))


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_checkpoint_is_not_resumed_from(copied, runs, corpus_root, emoshare, tmp_path, name) -> None:
    folder = copied("mlp")
    (folder / "results.json").unlink()  # as if it had been interrupted
    path = folder / f"checkpoints/{name}.ckpt"
    flip(path, path.stat().st_size // 2)
    result = emoshare(
        "train", "data=compare23", f"data.root={corpus_root}", "window.seconds=1", "logger=none", "backbone=tiny",
        "trainer.progress=false", "trainer.epochs=1", "train.refit=true", f"paths.outputs={folder.parent.parent}",
        f"sweep.name={folder.parent.name}",
    )  # fmt: skip
    assert result.status == 1
    assert f"{name}.ckpt: not readable (" in result.err
    assert "resume=false" in result.err


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values in a nested one, of lists to the first alone."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def put(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value in a place, sealed as the one before."""
    changed: Any = json.loads(json.dumps(content))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed | ({SEAL: seal(changed)} if SEAL in changed else {})


@pytest.mark.parametrize(
    ("name", "file", "share"),
    [
        ("exported mlp", "config.json", 200), ("exported svr", "config.json", 100),
        ("exported fusion", "config.json", 300), ("exported fusion", "members/0/config.json", 400),
        ("svr", "results.json", 60),
    ],
)  # fmt: skip
def test_any_wrong_value_is_one_error(copied, name, file, share) -> None:
    """One of `share` cases is tried, by whoever knows how the file is sealed."""
    folder = copied(name)
    path = folder / file
    content = json.loads(path.read_text())
    cases = [(place, value) for place in places(content) if place != (SEAL,) for value in (*WRONG, GONE)]
    random.Random(1).shuffle(cases)
    for place, value in cases[::share]:
        path.write_text(json.dumps(put(content, place, value)))
        try:
            found = list(shares(folder).values())
        except EmoshareError:
            continue
        assert np.isfinite(found).all(), (place, value)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "conv_dim", "intermediate_size"])
@pytest.mark.parametrize("value", [10**9, -1, [10**9], "x", {}, [1] * 20_000])
def test_sizes_of_a_checkpoint_are_bounded_before_anything_is_built(tmp_path, key, value) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(EmoshareError) as error:
        load_backbone(config, WindowConfig(seconds=1.0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [["hubert"], {}, 1, "nosuch", True])
def test_a_model_type_that_is_none(tmp_path, value) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": value}))
    with pytest.raises(EmoshareError, match=r"config\.json|is of"):
        load_backbone(config, WindowConfig(seconds=1.0))


def test_a_config_that_its_weights_are_too_small_for(tmp_path) -> None:
    """transformers would make up the tensors of another shape: here 40 GB."""
    config = checkpoints.write(tmp_path / "model", "hubert")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 10_000_000}))
    with pytest.raises(EmoshareError, match=r"describes [\d,]+ parameters, and its weights have [\d,]+ bytes"):
        load_backbone(config, WindowConfig(seconds=1.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.fill_(torch.nan), "NaN or infinite"),
        (lambda tensor: tensor > 0, "weights of the type BOOL"),
        (lambda tensor: tensor.to(torch.int8), "weights of the type I8"),
        (lambda tensor: tensor[:-1].clone(), "in another shape|bytes"),
    ],
)
def test_weights_of_a_checkpoint_that_are_none(tmp_path, change, words) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    tensors = load_file(tmp_path / "model/model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.0.feed_forward.output_dense.weight"))
    save_file(tensors | {name: change(tensors[name].clone())}, tmp_path / "model/model.safetensors", {"format": "pt"})
    with pytest.raises(EmoshareError, match=words):
        load_backbone(config, WindowConfig(seconds=1.0))


@pytest.mark.parametrize(
    "change", [lambda t: t > 0, lambda t: t.int(), lambda t: t.fill_(torch.nan), lambda t: t[:0].clone()]
)
def test_weights_of_a_head_that_are_none(copied, change) -> None:
    folder = copied("exported mlp")
    path, content = folder / "head.safetensors", json.loads((folder / "config.json").read_text())
    whole = load_file(path)
    for name, tensor in whole.items():
        if tensor.is_floating_point():
            save_file(whole | {name: change(tensor.clone())}, path)
            content["results"]["files"] |= hashing.file_digests(folder, ["head.safetensors"])
            write_sealed(folder / "config.json", content)
            with pytest.raises(EmoshareError, match="weights are of another head"):
                shares(folder)


def test_a_member_with_other_targets(copied) -> None:
    folder = copied("exported fusion")
    path = folder / "members/1/config.json"
    text = path.read_text().replace("Anger", "Rage")
    write_sealed(path, json.loads(text))
    with pytest.raises(EmoshareError, match="predicts other targets than"):
        shares(folder)


@pytest.mark.parametrize("files", [["adapter_config.json"], ["adapter_model.safetensors"], ["adapter_model.bin"]])
@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_beside_a_checkpoint_is_refused(tmp_path, files, alone) -> None:
    config = checkpoints.write(tmp_path / "model", "hubert")
    if alone:
        shutil.rmtree(tmp_path / "model")
        (tmp_path / "model").mkdir()
    for name in files:
        (tmp_path / "model" / name).write_text("{}")
    with pytest.raises(EmoshareError, match=r"low-rank adapter .* merge it"):
        load_backbone(config, WindowConfig(seconds=1.0))
