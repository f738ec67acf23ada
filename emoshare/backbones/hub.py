"""A checkpoint's files from the model hub: in its cache, or fetched."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from emoshare.backbones import emotion2vec_files
from emoshare.core.errors import EmoshareError, NotAtHandError, brief
from emoshare.core.files import read_json

log = logging.getLogger("emoshare")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER = "adapter_config.json"  # of peft: transformers adds such an adapter by itself, if peft is installed
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # which holds the same, as newer versions of transformers write it
FETCH_AGAIN = "fetch the checkpoint again"


def snapshot(config: Any, local: bool) -> Path | None:
    """The folder of the hub's cache with the checkpoint's files, fetched unless `local`; None: not all are there."""
    from huggingface_hub import errors, hf_hub_download

    absent = errors.LocalEntryNotFoundError if local else errors.RemoteEntryNotFoundError

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(config.path, file, revision=config.revision, local_files_only=local))
        except absent:
            return None

    settings = fetch("config.json")
    if settings is None and (settings := fetch(emotion2vec_files.SETTINGS)):
        notes = fetch(emotion2vec_files.NOTES)
        at_hand = config.pretrained and fetch(emotion2vec_files.named_weights(notes))
        return settings.parent if at_hand or not config.pretrained else None
    fetch(PREPROCESSOR) or fetch(PROCESSOR)
    if adapter := fetch(ADAPTER):
        if getattr(config, "adapter", None) != "merge":
            return adapter.parent  # which is refused
        fetch("adapter_model.safetensors") or fetch("adapter_model.bin")
    if settings is None or not config.pretrained:
        return settings and settings.parent
    weights = next(filter(None, map(fetch, WEIGHTS)), None)
    if weights is not None and weights.suffix == ".json":
        shards = set(read_json(weights, FETCH_AGAIN)["weight_map"].values())
        return weights.parent if all(map(fetch, shards)) else None
    return weights and weights.parent


def complete(config: Any, folder: Path) -> None:
    """Fetch the preprocessor file of a cached checkpoint, where nobody has asked the hub for it and the hub answers.

    Of the very commit of the folder, and what the hub does not have is noted in its cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if emotion2vec_files.is_published(folder):
        return
    for file in (PREPROCESSOR, PROCESSOR):
        known = try_to_load_from_cache(config.path, file, revision=folder.name)
        if isinstance(known, str):
            return
        if known is None:  # nobody has asked
            try:
                ping_hub(config, folder.name, seconds=3)
                hf_hub_download(config.path, file, revision=folder.name)
                return
            except Exception as error:  # as in `download`
                log.debug("%s of %s not fetched: %s", file, config.path, brief(error))


def download(config: Any) -> Path:
    """Fetch the checkpoint from the hub."""
    try:
        ping_hub(config, config.revision, seconds=10)
        folder = snapshot(config, local=False)
    except Exception as error:  # the hub client's own, its HTTP library's and the system's
        raise NotAtHandError(
            f"backbone={config.name}: {config.path} is no folder, not in the hub cache, and can't be fetched "
            f"({brief(error)}); run "
            f"{command(config)} where there is a network, or set backbone.path=<its folder>"
        ) from error
    if folder is None:
        raise EmoshareError(f"backbone={config.name}: {config.path} holds no {' or '.join(WEIGHTS[::2])}")
    return folder


def ping_hub(config: Any, revision: str | None, seconds: float) -> None:
    """Raise at once where no hub answers: its client's own downloads would try six times."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    with contextlib.suppress(errors.RemoteEntryNotFoundError):  # which is an answer
        get_hf_file_metadata(hf_hub_url(config.path, "config.json", revision=revision), timeout=seconds)


def command(config: Any, *files: str) -> str:
    """The command that fetches the checkpoint, or some of its files, into the hub's cache."""
    revision = ("--revision", config.revision) if config.revision else ()
    return f"`{' '.join(('hf', 'download', config.path, *files, *revision))}`"
