"""Backbones that come from a checkpoint's folder, or from the hub."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Self

from emoshare.core.backbones import BackboneOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import folder_fingerprint
from emoshare.core.schema import MISSING, key
from emoshare.core.text import search_place


@dataclass
class CheckpointOptions(BackboneOptions):
    """Where the checkpoint lies."""

    path: str = key(MISSING, "hub name or local folder; tiny is built in", neutral=True)
    revision: str | None = key(None, "hub revision: branch, tag or commit", neutral=True)
    _: KW_ONLY
    licence: str | None = key(None, "licence of the checkpoint", neutral=True)
    pretrained: bool = key(True, "false: random weights from the run's seed, as a control")

    @property
    def seeded(self) -> bool:
        return not self.pretrained

    @property
    def fetchable(self) -> bool:
        return self.frozen and not Path(self.path).expanduser().is_dir()

    @property
    def checkpoint(self) -> Path | None:
        from emoshare.backbones.checkpoint import locate

        return locate(self)

    def with_commit(self, commit: str | None) -> Self:
        return replace(self, revision=commit or self.revision)

    def for_export(self, place: str) -> Self:
        return replace(self, path=place, revision=None, pretrained=True)

    def sources(self, cache: Path) -> dict[str, Any]:
        """Hub name and revision, or the fingerprint of a folder.

        Raises:
            EmoshareError: a local folder that is not there, and of which no fingerprint is remembered.
        """
        if self.path in ("tiny", self.type):  # built in
            return {"name": self.path}
        if fingerprint := folder_fingerprint(Path(self.path), cache / "fingerprints"):
            return {"folder": fingerprint}
        if self.path.startswith(("/", ".", "~")):
            raise EmoshareError(
                f"backbone.path={self.path}: no such folder; name a checkpoint's folder or a hub model"
                f"{search_place(self.path)}"
            )
        return {"name": self.path, "revision": self.revision}
