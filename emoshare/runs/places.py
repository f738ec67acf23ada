"""Locations of the files that a run names by relative paths, from every folder, and after a move of the project.

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
    return {"folder": str(Path.cwd()), "from_run": os.path.relpath(Path.cwd(), run.resolve())}


def candidates(run: Path, path: str, started: dict[str, str]) -> list[Path]:
    """Possible locations of a path in a run's config, each once: relative to the run, the old one, and from here.

    started: of `here`, when the run was started; empty for one that has not noted it.
    """
    given = Path(path).expanduser()
    paths = [given] if given.is_absolute() else []
    if started:
        inside = os.path.relpath(given, started["folder"]) if given.is_absolute() else str(given)
        if not given.is_absolute() or not inside.startswith(".."):
            paths.append(run.resolve() / started["from_run"] / inside)
        paths.append(started["folder"] / given)
    paths.append(given.absolute())
    return list(dict.fromkeys(Path(os.path.normpath(place)) for place in paths))


def locate_backbone(run: Path, config: BackboneOptions, sources: dict[str, Any]) -> BackboneOptions:
    """The backbone of a run, with the present folders of its checkpoints.

    sources: of the run's sources.json.

    Raises:
        EmoshareError: the folder of a checkpoint is at none of the places where it may be.
    """
    checkpoint = sources.get("checkpoint", {})
    if parts := parts_of(config):
        of_parts: Sequence[dict[str, Any]] = checkpoint.get("parts") or [{}] * len(parts)
        with_own = [sources | {"checkpoint": source} for source in of_parts]
        return with_parts(config, [locate_backbone(run, *pair) for pair in zip(parts, with_own, strict=True)])
    if not checkpoint.keys() & {"folder", "file"}:  # of the hub, or built in
        return config
    places = candidates(run, config.path, sources.get("started", {}))
    if place := next((place for place in places if place.exists()), None):
        return config.with_place(str(place))
    raise EmoshareError(
        f"{run}: the backbone that it was trained with is not at hand: backbone.path={config.path}: not there; "
        f"looked for {' and '.join(map(str, places))}: bring it back to one of them"
    )


def cache_of(run: Path, path: str, started: dict[str, str]) -> Path:
    """The cache of a run, where it still exists; else the one that its config names."""
    places = candidates(run, path, started)
    return next((place for place in places if place.is_dir()), Path(path))


def member_folder(fusion: Path, member: MemberRecord) -> Path:
    """The folder of a member of a fusion: beside it, at the same relative place, or at the old one."""
    places = [fusion.parent / member.run]
    if member.from_fusion is not None:
        places.append(Path(os.path.normpath(fusion.resolve() / member.from_fusion)))
    return next((place for place in places if place.is_dir()), Path(member.folder))
