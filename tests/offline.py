"""What an offline run of W&B holds, read back from its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Logged(NamedTuple):
    """An offline run of W&B, as it would be uploaded."""

    folder: Path
    records: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def epochs(self) -> dict[int, dict[str, float]]:
        rows = [record["item"] for record in self.of("history")]
        return {int(row["epoch"]): row for row in rows if "devel/avg" in row}

    @property
    def summary(self) -> dict[str, Any]:
        return {name: value for record in self.of("summary") for name, value in record["update"].items()}


def inspect(run: Path) -> list[Logged]:
    """The offline runs of a run folder, oldest first, read by W&B's own program."""
    found = []
    for file in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found.append(Logged(file.parent, [json.loads(line) for line in lines]))
    return found
