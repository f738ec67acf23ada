"""The one way in which configs, recipes and places are hashed."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(value: Any, characters: int = 16) -> str:
    """The first hex characters of the SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:characters]
