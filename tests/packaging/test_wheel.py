"""The wheel holds every module and data file of the tree, under one top-level name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("mesh", "node", "api", "explorer")
NOT_SHIPPED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "--no-cache-dir", "-w", out, tree], check=True, timeout=120)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def shipped(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_every_file_of_the_tree_is_in_it_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tree = {
        f"localai/{path.relative_to(ROOT)}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not NOT_SHIPPED & set(path.parts)
    }
    assert shipped(wheel) == tree


def test_localai_is_the_only_top_level_name(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in shipped(wheel)} == {"localai"}
    assert "localai/__init__.py" not in shipped(wheel), "a namespace, which others may share"


def test_it_brings_the_programs_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (scripts,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(scripts).decode()
    assert "localai = localai.node.cli:main" in text
    assert "local-ai = localai.node.cli:main" in text
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
