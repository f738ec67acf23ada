"""A trained model as a folder that `emoshare.load` reads anywhere, with a model card, ready for `hf upload`.

What is in such a folder stands in `bundle`. A backbone of the hub is named with its commit; one that was trained here,
or came from a folder, goes along as safetensors. No path of this machine is left in it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.backbones import architecture, audeep, checkpoint, deepspectrum
from emoshare.backbones.base import MODULES, load_backbone
from emoshare.core.config import BackboneConfig, Config, LoggerConfig, PathsConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, replacing_folder, without_paths, write_json, write_text
from emoshare.core.hashing import file_digests, write_sealed
from emoshare.core.kinds import is_outside, values_of
from emoshare.core.typed import fill
from emoshare.inference.bundle import BACKBONE, CONFIG, FORMAT, MEMBERS, Bundle, describe, open_bundle
from emoshare.inference.export.card import base_models, card, check_license
from emoshare.inference.export.check import float32_model, largest_error
from emoshare.runs.results import Results
from emoshare.systems.learned import FACTS

SAFE = (".json", ".safetensors", ".txt")  # files of a checkpoint that may be copied: nothing that could be run
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
            loaded = float32_model(open_bundle(unfinished, allow=bundle.allow), Path(empty))

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


def placeless_members(results: Results, members: list[Bundle]) -> list[dict[str, Any]]:
    """What is noted of a fusion's members, each with its place in the folder."""
    return [
        entry | {"folder": f"{MEMBERS}/{number}", "base_model": base_models(member)}
        for number, (entry, member) in enumerate(zip(results.members, members, strict=True))
    ]


def write_head(bundle: Bundle, folder: Path) -> None:
    """What the head has learned, as data."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle.head().save(folder)


def write_backbone(bundle: Bundle, folder: Path, cache: Path) -> Bundle:
    """Write the backbone's weights if nobody else could fetch them; the bundle with what names the backbone then."""
    placed = bundle.placed(cache).backbone
    if is_outside(placed):
        placed.write(bundle.config.window, bundle.config.seed, bundle.backbone_weights(), folder)
        config = replace(bundle.config, backbone=replace(placed, _weights_=str(folder)))
        identity = load_backbone(config.backbone, config.window, torch.float32, config.seed).identity
        config = with_backbone(config, _weights_=BACKBONE)
        return replace(bundle, config=config, results=replace(bundle.results, backbone=identity))
    local = Path(placed.path).expanduser()
    trained = not placed.frozen
    if placed.type == "audeep" and placed.pretrained:
        copy_audeep(local, folder)
        return replace(bundle, config=with_backbone(bundle.config, path=BACKBONE))
    if not trained and not local.is_dir():  # of the hub, or built in
        commit = bundle.results.backbone.get("commit")
        return replace(bundle, config=with_backbone(bundle.config, revision=commit or placed.revision))
    if not trained and placed.type not in ("deepspectrum", *speech_types()):
        copy_safe(local, folder)
    else:
        save_model(placed, bundle.config.seed, bundle.backbone_weights(), folder)
    origin = base_models(bundle) if not local.is_dir() else []
    config = with_backbone(bundle.config, path=BACKBONE, revision=None, pretrained=True)
    here = replace(config.backbone, path=str(folder))
    with tempfile.TemporaryDirectory() as empty:
        identity = load_backbone(here, config.window, torch.float32, config.seed, Path(empty)).identity
    resolved = bundle.results.resolved | ({"base_model": origin} if origin else {})
    results = replace(bundle.results, backbone=identity | {"path": BACKBONE}, resolved=resolved)
    return replace(bundle, config=config, results=results)


def speech_types() -> list[str]:
    return [kind for kind, module in MODULES.items() if module == "ssl"]


def with_backbone(config: Config, **values: Any) -> Config:
    return replace(config, backbone=replace(config.backbone, **values))


def save_model(config: BackboneConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
    """A checkpoint of transformers with the trained weights, if any, in place of its own.

    Layers above the one that is read stay as the checkpoint has them.
    """
    if config.type == "deepspectrum":
        model, parts = deepspectrum.load_encoder(config, seed).cnn, {"cnn": ""}
    elif config.type in speech_types():
        source = checkpoint.locate(config)
        sizes = architecture.describe(config, source, checkpoint.preprocessing(source))
        model = checkpoint.build(config, sizes, source, seed)
        parts = {"features": "feature_extractor.", "projection": "feature_projection.", "transformer": "encoder."}
        parts["augment"] = ""
    else:
        raise EmoshareError(
            f"backbone={config.name}: a trained backbone of type {config.type} cannot be exported; train the head alone"
        )
    named = {}
    for name, tensor in weights.items():
        part, inner = name.removeprefix("encoder.").split(".", 1)
        named[parts[part] + inner] = tensor
    _, unplaced = model.load_state_dict(named, strict=False)
    if unplaced:
        raise EmoshareError(f"backbone={config.name}: trained weights without a place in it: {', '.join(unplaced[:3])}")
    with without_progress():
        model.save_pretrained(folder)
    if (found := checkpoint.locate(config)) and (found / checkpoint.PREPROCESSOR).is_file():
        write_json(folder / checkpoint.PREPROCESSOR, read_json(found / checkpoint.PREPROCESSOR, "fetch it again"))
    values = read_json(folder / "config.json", "export again")
    write_json(folder / "config.json", {k: v for k, v in values.items() if k != "_name_or_path"})


@contextmanager
def without_progress() -> Iterator[None]:
    """Without transformers' progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def copy_audeep(source: Path, folder: Path) -> None:
    """Trained autoencoders, as `audeep.load_folder` reads them."""
    folder.mkdir(parents=True)
    for path in (source / audeep.RECIPE, *(audeep.weights_file(source, level) for level in audeep.THRESHOLDS)):
        if not path.is_file():
            raise EmoshareError(f"{path}: it is missing; {audeep.REMEDY}")
        shutil.copyfile(path, folder / path.name)


def copy_safe(source: Path, folder: Path) -> None:
    """The files of a checkpoint that are data and nothing else."""
    files = [path for path in sorted(source.iterdir()) if path.is_file() and path.suffix in SAFE]
    if not any(path.suffix == ".safetensors" for path in files):
        raise EmoshareError(f"{source}: holds no safetensors; save the checkpoint in that format first")
    folder.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)


def without_places(bundle: Bundle) -> Bundle:
    """The bundle without what its config and results say of this machine: folders, accounts, options of the trainer."""
    config = bundle.config
    data = replace(config.data, root=config.data.name, wav=PurePosixPath(config.data.wav).name)
    trainer = replace(config.trainer, options={})
    config = replace(config, data=data, trainer=trainer, paths=PathsConfig(), logger=LoggerConfig(name="none"))
    config = fill(Config, without_paths(values_of(config)), CONFIG, bundle.allow)
    values = without_paths(asdict(replace(bundle.results, config=values_of(config))))
    return replace(bundle, config=config, results=Results(**values))
