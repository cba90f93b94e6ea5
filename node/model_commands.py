"""The commands ``localai models ...`` and ``localai util gguf-info`` (shell)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

from localai.mesh.errors import LocalAIError, NotFound
from localai.node.gallery.gallery_index import IndexEntry, parse_galleries
from localai.node.gallery.progress import shown_install
from localai.node.gallery.recipe import definition_filename
from localai.node.gallery.references import installed, not_found, open_installer
from localai.node.gallery.removal import remove_model
from localai.node.gguf_report import render_gguf
from localai.node.model_config import ModelConfig
from localai.node.models_folder import create_models_folder, read_catalog
from localai.node.options import UsageError, Values
from localai.node.sources.gguf_metadata import MAX_FRONT_BYTES, parse_gguf_front
from localai.node.sources.planning import SourceRules, source_rules


def list_models(values: Values, rules: SourceRules | None = None) -> int:
    """Print every model of every gallery, one a line; those that are here are marked.

    Raises:
        LocalAIError: an index cannot be had.
    """
    models_path = _models_path(values)
    for entry in asyncio.run(_entries(values, rules)):
        here = (models_path / definition_filename(entry.name)).exists()
        print(f" {'*' if here else '-'} {entry.gallery.name}@{entry.name}{' (installed)' if here else ''}")
    return 0


def install_models(values: Values, references: Sequence[str], rules: SourceRules | None = None) -> int:
    """Install all that can be; 1 if something could not."""
    return asyncio.run(_install(values, references, rules))


def delete_models(values: Values, names: Sequence[str]) -> int:
    """Remove models with their files; 1 if something could not be."""
    models_path = create_models_folder(_models_path(values))
    code = 0
    for name in names:
        try:
            for filename in remove_model(models_path, name):
                print(f"removed {filename}")
        except LocalAIError as error:
            code = _complain(error)
    return code


def show_model(values: Values, name: str, rules: SourceRules | None = None) -> int:
    """Print what is known of a model that is here, or else of one that could be installed.

    Raises:
        NotFound: nobody knows it.
    """
    models_path = create_models_folder(_models_path(values))
    if (config := installed(name, read_catalog(models_path))) is not None:
        sys.stdout.write(_render(_facts(models_path, config)))
        return 0
    if (entry := asyncio.run(_find(values, name, rules))) is not None:
        sys.stdout.write(_render(_offered(entry)))
        return 0
    raise not_found(name)


def show_gguf(values: Values, file: str) -> int:
    """Print what a GGUF file says of itself.

    Raises:
        NotFound: it cannot be read.
        ModelLoadFailed: it is no GGUF file, or a damaged one.
    """
    path = Path(file).expanduser()
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            data = source.read(MAX_FRONT_BYTES)
    except OSError as error:
        message = f"The file {path} cannot be read. Give the path of a .gguf file."
        raise NotFound(message, code="no_such_file", detail=repr(error)) from error
    header = values["header"] is True
    sys.stdout.write(render_gguf(parse_gguf_front(data, size, path.name), str(path), size, header=header))
    return 0


async def _entries(values: Values, rules: SourceRules | None) -> tuple[IndexEntry, ...]:
    async with open_installer(
        _models_path(values), os.environ, parse_galleries(str(values["galleries"] or "")), rules=rules
    ) as installer:
        return await installer.available()


async def _find(values: Values, name: str, rules: SourceRules | None) -> IndexEntry | None:
    async with open_installer(
        _models_path(values), os.environ, parse_galleries(str(values["galleries"] or "")), rules=rules
    ) as installer:
        return await installer.find(name)


async def _install(values: Values, references: Sequence[str], rules: SourceRules | None) -> int:
    rules = rules or source_rules(os.environ, scan=values["disable_predownload_scan"] is not True)
    galleries = parse_galleries(str(values["galleries"] or ""))
    code = 0
    async with open_installer(_models_path(values), os.environ, galleries, rules=rules) as installer:
        for reference in references:
            try:
                with shown_install() as show:
                    await installer.install(reference, show)
            except LocalAIError as error:
                code = _complain(error)
    return code


def _models_path(values: Values) -> Path:
    path = values["models_path"]
    if not isinstance(path, PurePath):
        raise UsageError("--models-path must name a directory, it cannot be empty")
    return Path(path)


def _facts(models_path: Path, config: ModelConfig) -> dict[str, str]:
    path = models_path / config.model_file
    size = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
    return {
        "name": config.name,
        "description": config.description,
        "backend": config.backend,
        "file": f"{config.model_file} ({size})" if config.model_file else "",
        "sha256": config.sha256 or "",
        "more files": ", ".join(config.companion_files),
        "alias of": config.alias,
        "disabled": "yes" if config.disabled else "",
        "definition": config.source,
    }


def _offered(entry: IndexEntry) -> dict[str, str]:
    return {
        "name": entry.name,
        "gallery": entry.gallery.name,
        "description": " ".join(entry.description.split()),
        "license": entry.licence,
        "tags": ", ".join(entry.tags),
        "urls": ", ".join(entry.urls),
        "files": ", ".join(file.filename for file in entry.files),
        "installed": "no",
    }


def _render(facts: dict[str, str]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in facts.items() if value)


def _complain(error: LocalAIError) -> int:
    print(f"error: {error.message}", file=sys.stderr)
    return 1
