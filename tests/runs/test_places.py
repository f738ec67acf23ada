"""A run is used from every folder, and after its project has moved: its checkpoint, cache and members are found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import checkpoints
import pytest
from sections import backbone

import emoshare as package
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.errors import EmoshareError
from emoshare.runs.places import cache_of, candidates, here, locate_backbone, member_folder
from emoshare.runs.results import MemberRecord

FOLDER = {"checkpoint": {"folder": "f00d"}}


def sources(run: Path) -> dict:
    return FOLDER | {"started": here(run)}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The working folder, with a checkpoint and the place of a run."""
    root = tmp_path / "project"
    for folder in ("checkpoints/mine", "outputs/r/run", "cache"):
        (root / folder).mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_a_checkpoint_is_found_from_elsewhere(project, tmp_path, monkeypatch, absolute, moved) -> None:
    run = Path("outputs/r/run")
    path = str(project / "checkpoints/mine") if absolute else "checkpoints/mine"
    known = sources(run)
    if moved:
        project = project.rename(tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    found = locate_backbone(project / run, Encoder("mine", path), known)
    assert found.path == str(project / "checkpoints/mine")
    assert cache_of(project / run, "cache", known["started"]) == project / "cache"


def test_a_run_that_moves_alone_finds_its_checkpoint_where_it_was(project, tmp_path, monkeypatch) -> None:
    known = sources(Path("outputs/r/run"))
    run = (project / "outputs/r/run").rename(tmp_path / "run")
    monkeypatch.chdir("/")
    assert locate_backbone(run, Encoder("mine", "checkpoints/mine"), known).path == str(project / "checkpoints/mine")


def test_a_run_of_earlier_versions_is_found_from_its_folder_alone(project) -> None:
    run = project / "outputs/r/run"
    assert locate_backbone(run, Encoder("mine", "checkpoints/mine"), FOLDER).path == str(project / "checkpoints/mine")
    assert candidates(run, "a/b", {}) == [project / "a/b"]


def test_where_a_checkpoint_was_looked_for_is_told(project, monkeypatch) -> None:
    known = sources(project / "outputs/r/run")
    (project / "checkpoints/mine").rmdir()
    monkeypatch.chdir("/")
    with pytest.raises(EmoshareError) as error:
        locate_backbone(project / "outputs/r/run", Encoder("mine", "checkpoints/mine"), known)
    for word in ("backbone.path=checkpoints/mine", str(project / "checkpoints/mine"), "/checkpoints/mine", "bring it"):
        assert word in str(error.value)


def test_what_is_of_the_hub_or_built_in_stays_as_it_is(project) -> None:
    known = {"checkpoint": {"name": "org/model", "revision": None}, "started": here(project)}
    config = Encoder("model", "org/model")
    assert locate_backbone(project, config, known) is config


def test_the_parts_of_several_backbones_are_placed(project, monkeypatch) -> None:
    known = sources(project / "outputs/r/run")
    known["checkpoint"] = {"parts": [{"folder": "f00d"}, {"name": "logmel"}]}
    parts = [{"name": "mine", "path": "checkpoints/mine", "type": "hubert", "dim": 8, "layers": 1}]
    parts += [{"name": "logmel", "type": "logmel"}]
    config = backbone("concat", name="both", dim=88, parts=parts)
    monkeypatch.chdir("/")
    found = locate_backbone(project / "outputs/r/run", config, known)
    assert [part.get("path") for part in found.parts] == [str(project / "checkpoints/mine"), None]
    assert (found.name, found.dim) == ("both", 88)


def test_members_of_a_fusion_are_found_beside_it_and_as_they_lay_to_it(project, tmp_path) -> None:
    fusion = project / "fused/fusion-a"
    fusion.mkdir(parents=True)
    folder = str(project / "outputs/r/run")
    member = MemberRecord(run="run", weight=1.0, folder=folder, from_fusion=os.path.relpath(folder, fusion))
    moved = project.rename(tmp_path / "moved")
    assert member_folder(moved / "fused/fusion-a", member) == moved / "outputs/r/run"
    (moved / "fused/run").mkdir()
    assert member_folder(moved / "fused/fusion-a", member) == moved / "fused/run"
    assert member_folder(tmp_path / "other/fusion", member) == Path(folder)


def test_a_relative_checkpoint_is_found_by_predictions_elsewhere(small, corpus_root, tmp_path, monkeypatch) -> None:
    """Trained, forced again, and moved with its project."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    checkpoints.write(root / "checkpoints/mine", "hubert")
    keys = [key for key in small if not key.startswith("backbone=")] + ["trainer.epochs=1"]
    keys += ["backbone=auto", "backbone.path=checkpoints/mine"]
    run = package.train(*keys).run
    assert package.train(*keys, "force=true").run == run
    clip = next((corpus_root / "wav").iterdir())
    shares = package.load(f"outputs/default/{run}").predict(clip)
    noted = json.loads((root / "outputs/default" / run / "sources.json").read_text())["started"]
    assert noted == {"folder": str(root), "from_run": "../../.."}
    moved = root.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    model = package.load(moved / "outputs/default" / run)
    assert model.predict(clip) == shares
    assert model.cache == moved / "cache"
