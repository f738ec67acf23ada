"""Names of windows in tables and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TOLD = ("window.pad", "window.normalize")  # keys that the name of a window tells
RECIPES: dict[tuple[Any, Any], str] = {
    ("zeros", "none"): "paper",
    ("none", "checkpoint"): "native",
}  # conf/window/<name>.yaml


def recipe_name(window: Mapping[str, Any]) -> str | None:
    """The option of the group `window` with these values of pad and normalize; None where none has both."""
    return RECIPES.get((window.get("pad"), window.get("normalize")))


def window_name(window: Mapping[str, Any]) -> str:
    """`5.5 s`, or `5.5 s native`."""
    return f"{window.get('seconds', math.nan):g} s{' native' if recipe_name(window) == 'native' else ''}"


def window_of(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The section `window` of a config with dotted keys."""
    return {key.removeprefix("window."): value for key, value in flat.items() if key.startswith("window.")}
