from __future__ import annotations

import importlib.metadata
import re

import pytest

from localai.node import version


def test_the_version_of_what_is_installed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version.program_version())
    assert version.program_version() == importlib.metadata.version("localai-mesh")


def test_a_program_that_was_not_installed_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version.program_version() == "0.0.0"
