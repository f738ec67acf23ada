"""Sections of a config that hold one of a kind."""

from typing import Any

from emoshare.core.typed import fill_options


def backbone(type: str, **values: Any) -> Any:  # noqa: A002 (the key backbone.type)
    """The options of a backbone."""
    return fill_options("backbone", {"type": type, **values}, "test")
