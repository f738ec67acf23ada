"""Backbones as data in a folder: a checkpoint of transformers, or trained autoencoders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from emoshare.backbones import architecture, audeep, checkpoint, deepspectrum, hub, ssl
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_json

SAFE = (".json", ".safetensors", ".txt")  # files of a checkpoint that may be copied: nothing that could be run
PARTS = {
    "features": "feature_extractor.", "projection": "feature_projection.", "transformer": "encoder.", "augment": "",
}  # fmt: skip


def write_cnn(config: Any, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
    """The CNN of deepspectrum, with the trained weights, if any, in place of its own."""
    save(config, deepspectrum.load_encoder(config, seed).cnn, {"cnn": ""}, weights, folder)


def write_encoder(config: Any, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
    """A speech encoder with the trained weights, if any, in place of its own.

    Layers above the one that is read stay as the checkpoint has them.

    Raises:
        EmoshareError: it was trained, and is of a family behind mel features.
    """
    if config.module is ssl:
        source = checkpoint.locate(config)
        sizes = architecture.describe(config, source, checkpoint.preprocessing(source))
        save(config, checkpoint.build(config, sizes, source, seed), PARTS, weights, folder)
    elif config.frozen:
        copy_safe(Path(config.path).expanduser(), folder)
    else:
        raise EmoshareError(
            f"backbone={config.name}: a trained backbone of type {config.type} cannot be exported; train the head alone"
        )


def save(config: Any, model: Any, parts: dict[str, str], weights: dict[str, Tensor], folder: Path) -> None:
    """Write a model of transformers; parts: of the encoder's names → of the model's."""
    place_weights(config, model, weights, parts)
    with without_progress():
        model.save_pretrained(folder)
    if (found := checkpoint.locate(config)) and (found / hub.PREPROCESSOR).is_file():
        write_json(folder / hub.PREPROCESSOR, read_json(found / hub.PREPROCESSOR, "fetch it again"))
    values = read_json(folder / "config.json", "export again")
    write_json(folder / "config.json", {k: v for k, v in values.items() if k != "_name_or_path"})


def place_weights(config: Any, model: Any, weights: dict[str, Tensor], parts: dict[str, str] = PARTS) -> None:
    """Put trained weights into a model of transformers. EmoshareError where one has no place in it.

    parts: of the encoder's names → of the model's.
    """
    named = {}
    for name, tensor in weights.items():
        part, inner = name.removeprefix("encoder.").split(".", 1)
        named[parts[part] + inner] = tensor
    _, unplaced = model.load_state_dict(named, strict=False)
    if unplaced:
        raise EmoshareError(f"backbone={config.name}: trained weights without a place in it: {', '.join(unplaced[:3])}")


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
