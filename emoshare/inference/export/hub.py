"""A trained model as a folder that `emoshare.load` reads anywhere, with a model card, ready for `hf upload`.

`bundle` lists what is in such a folder. A backbone of the hub is named with its commit; one that was trained here,
or came from a folder, goes along as safetensors. No path of this machine is left in it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from emoshare.backbones.base import load_backbone
from emoshare.core.config import Config, PathsConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_nothing_else, finite, read_json, replacing_folder, without_paths, write_text
from emoshare.core.hashing import file_digests, write_sealed
from emoshare.core.kinds import values_of
from emoshare.core.records import record_of, to_json
from emoshare.core.typed import fill
from emoshare.inference.bundle import BACKBONE, CONFIG, FORMAT, MEMBERS, Bundle, describe, open_bundle
from emoshare.inference.export.card import base_models, card, check_license
from emoshare.inference.export.check import float32_model, largest_error
from emoshare.runs.results import BackboneRecord, MemberRecord, Results
from emoshare.runs.trackers.none import Options as Nowhere
from emoshare.systems.learned import FACTS

SAME = 1e-6  # largest difference between the shares of the folder and the run's


def export_hub(bundle: Bundle, folder: Path, license: str | None = None, cache: Path | None = None) -> float:
    """Write the folder, whole or not at all. Returns the largest difference of a share from the run's.

    Raises:
        EmoshareError: the folder holds something else, a file of the run or of its backbone cannot be read, or the
            folder's shares are not the run's.
    """
    folder = folder.expanduser()
    check_place(folder)
    check_license(license)
    model = float32_model(bundle, cache)
    with replacing_folder(folder) as unfinished:
        written = write_bundle(bundle, unfinished, model.cache)
        for path in unfinished.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes for the owner alone
        write_text(
            unfinished / "README.md",
            card(written, [leaf for leaf, _ in bundle.leaves()], license, folder.resolve().name),
        )
        with tempfile.TemporaryDirectory() as empty:
            loaded = float32_model(open_bundle(unfinished), Path(empty))

            def engine(samples: np.ndarray, lengths: np.ndarray) -> np.ndarray:
                clips = [row[:length] for row, length in zip(samples, lengths.tolist(), strict=True)]
                return loaded.windows_of(clips)[3]

            return largest_error(model, engine, bundle.results.run, "exported folder", SAME)


def check_place(folder: Path) -> None:
    """Raise EmoshareError where the folder would take the place of something else than an earlier export."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    taken = EmoshareError(f"{folder}: holds something else than an exported model; name another folder")
    if not (folder / CONFIG).is_file():
        raise taken
    if read_json(folder / CONFIG, "name another folder").get("format") != FORMAT:
        raise taken
    check_nothing_else(
        folder, (BACKBONE, MEMBERS, "README.md", "*.json", "*.safetensors", "*.skops"), "the exported model"
    )


def write_bundle(bundle: Bundle, folder: Path, cache: Path) -> Bundle:
    """Write all but the model card; returns the bundle with the config and results that were written."""
    if bundle.results.is_fusion:
        members = [write_bundle(m, folder / MEMBERS / str(n), cache) for n, (m, _) in enumerate(bundle.members())]
        bundle = replace(bundle, results=replace(bundle.results, members=placeless_members(bundle.results, members)))
    else:
        write_head(bundle, folder)
        bundle = write_backbone(bundle, folder / BACKBONE, cache)
    files = bundle.results.files | file_digests(
        folder,
        [p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".skops") or p.name == FACTS],
    )
    written = without_places(replace(bundle, results=replace(bundle.results, files=files)))
    write_sealed(folder / CONFIG, describe(written, written.config))
    return written


def placeless_members(results: Results, members: list[Bundle]) -> list[MemberRecord]:
    """The records of a fusion's members, each with its place in the folder."""
    return [
        replace(entry, folder=f"{MEMBERS}/{number}", base_model=base_models(member))
        for number, (entry, member) in enumerate(zip(results.members, members, strict=True))
    ]


def write_head(bundle: Bundle, folder: Path) -> None:
    """Write the trained head, as data."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle.head().save(folder)


def write_backbone(bundle: Bundle, folder: Path, cache: Path) -> Bundle:
    """Write the backbone's weights if nobody else could fetch them; the bundle with what names the backbone then."""
    placed, config = bundle.place_config(cache).backbone, bundle.config
    if placed.fetchable:  # of the hub, or built in
        commit = bundle.results.backbone.commit
        return replace(bundle, config=replace(config, backbone=config.backbone.with_commit(commit)))
    placed.write(config.window, config.seed, bundle.backbone_weights(), folder)
    written = replace(config, backbone=config.backbone.for_export(BACKBONE))
    if config.backbone.trained_first:
        return replace(bundle, config=written)
    origin = base_models(bundle) if not Path(placed.path).expanduser().is_dir() else []
    here = written.backbone.with_place(str(folder))
    with tempfile.TemporaryDirectory() as empty:
        identity = load_backbone(here, config.window, torch.float32, config.seed, Path(empty)).identity
    backbone = record_of(BackboneRecord, identity | {"path": written.backbone.path})
    resolved = replace(bundle.results.resolved, base_model=origin)
    results = replace(bundle.results, backbone=backbone, resolved=resolved)
    return replace(bundle, config=written, results=results)


def without_places(bundle: Bundle) -> Bundle:
    """The bundle without what its config and results say of this machine: folders, accounts, options of the trainer."""
    config = bundle.config
    data = replace(config.data, root=config.data.name, wav=PurePosixPath(config.data.wav).name)
    trainer = replace(config.trainer, options={})
    config = replace(config, data=data, trainer=trainer, paths=PathsConfig(), logger=Nowhere())
    config = fill(Config, without_paths(values_of(config)), CONFIG)
    values = finite(without_paths(to_json(replace(bundle.results, config=values_of(config)))))
    return replace(bundle, config=config, results=Results.of(values, Path(CONFIG)))
