"""The version of emoshare."""

__version__ = "0.1.0"
