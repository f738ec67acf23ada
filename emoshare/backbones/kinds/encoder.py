"""The backbones that come with emoshare, by their `backbone.type`."""

from emoshare.core.config import BackboneConfig as Options

__all__ = ["Options"]
