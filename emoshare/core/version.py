"""The versions of emoshare and of other packages."""

__version__ = "0.1.0"


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # not for `--version`

    try:
        return version(package)
    except PackageNotFoundError:
        return None
