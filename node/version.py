"""Which version this is (shell)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The installed version of this program; 0.0.0 when it runs without having been installed."""
    try:
        return version("localai-mesh")
    except PackageNotFoundError:
        return "0.0.0"
