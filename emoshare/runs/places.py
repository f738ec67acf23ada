"""Where the files are that a run names by relative paths: the same from every folder, and after a move of the project.

A run notes in sources.json the working folder that it was started in (`here`), and the way there from its own folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emoshare.core.backbones import BackboneOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.parts import parts_of, with_parts
from emoshare.runs.results import MemberRecord


def here(run: Path) -> dict[str, str]:
    """The working folder: its path, and the way to it from a run's folder."""
    return {"folder": os.getcwd(), "from_run": os.path.relpath(os.getcwd(), run.resolve())}


def candidates(run: Path, path: str, started: dict[str, str]) -> list[Path]:
    """Where a path of a run's config may be, each once: as it lay to the run, where it was, and from here.

    started: of `here`, when the run was started; empty for one that has not noted it.
    """
    given = Path(path).expanduser()
    found = [given] if given.is_absolute() else []
    if started:
        inside = os.path.relpath(given, started["folder"]) if given.is_absolute() else str(given)
        if not given.is_absolute() or not inside.startswith(".."):
            found.append(run.resolve() / started["from_run"] / inside)
        found.append(started["folder"] / given)
    found.append(given.absolute())
    return list(dict.fromkeys(Path(os.path.normpath(place)) for place in found))


def placed(run: Path, config: BackboneOptions, sources: dict[str, Any]) -> BackboneOptions:
    """The backbone of a run with the folders of its checkpoints as they are found from here.

    sources: of the run's sources.json.

    Raises:
        EmoshareError: the folder of a checkpoint is at none of the places where it may be.
    """
    checkpoint = sources.get("checkpoint", {})
    if parts := parts_of(config):
        of_parts: Sequence[dict[str, Any]] = checkpoint.get("parts") or [{}] * len(parts)
        found = [placed(run, part, sources | {"checkpoint": own}) for part, own in zip(parts, of_parts, strict=True)]
        return with_parts(config, found)
    if not checkpoint.keys() & {"folder", "file"}:  # of the hub, or built in
        return config
    there = candidates(run, config.path, sources.get("started", {}))
    if place := next((place for place in there if place.exists()), None):
        return config.with_place(str(place))
    raise EmoshareError(
        f"{run}: the backbone that it was trained with is not at hand: backbone.path={config.path}: not there; "
        f"looked for {' and '.join(map(str, there))}: bring it back to one of them"
    )


def cache_of(run: Path, path: str, started: dict[str, str]) -> Path:
    """The cache of a run, where it is there; else the one that its config names."""
    there = candidates(run, path, started)
    return next((place for place in there if place.is_dir()), Path(path))


def member_folder(fusion: Path, member: MemberRecord) -> Path:
    """Where a member of a fusion's run lies: beside it, as it lay to it, or where it was."""
    places = [fusion.parent / member.run]
    if member.from_fusion is not None:
        places.append(Path(os.path.normpath(fusion.resolve() / member.from_fusion)))
    return next((place for place in places if place.is_dir()), Path(member.folder))
