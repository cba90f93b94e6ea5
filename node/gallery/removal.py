"""Takes a model out of the models folder (shell): its files, unless another model has them too, and its definition."""

from __future__ import annotations

import os
import re
from pathlib import Path

import structlog

from localai.mesh.errors import Conflict, NotFound, SetupError
from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.models_folder import read_catalog

_LOG = structlog.get_logger()
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


def remove_model(models_path: Path, name: str) -> tuple[str, ...]:
    """Remove a model; get the names of the files that are gone, the definition last (blocking).

    Only the model of exactly this name goes. Of an alias that is its own definition, never the model that it means.

    Raises:
        NotFound: there is no such model.
        Conflict: its definition is in a file with others, or outside the folder.
        SetupError: a file cannot be removed.
    """
    catalog = read_catalog(models_path)
    config = next((each for each in _all(catalog) if each.name == name), None)
    if config is None:
        message = f'No model found with name "{name[:100]}". GET /v1/models or "localai run" show what is here.'
        raise NotFound(message, code="model_not_found")
    others = [each for each in _all(catalog) if each.name != config.name]
    if config.source and any(each.source == config.source for each in others):
        message = f"The definition of '{config.name}' is in {config.source} beside others. Take it out of that file."
        raise Conflict(message, code="shared_definition")
    files = (*files_of(config, others), *([config.source] if config.source else []))
    return tuple(filename for filename in files if _remove(models_path, filename))


def files_of(config: ModelConfig, others: list[ModelConfig]) -> tuple[str, ...]:
    """Names of the files that only this model has: all parts of a split one, projectors, adapters.

    A file that may define models is never among them, whatever the model says that it needs.
    """
    kept = {file for each in others for file in (each.source, *_named_by(each))}
    kept = (kept | {_first_part(file) for file in kept}) - {""}
    named = _named_by(config)
    own = dict.fromkeys((*named, *(part for file in named for part in _later_parts(file))))
    return tuple(
        file for file in own if file and kept.isdisjoint((file, _first_part(file))) and not _is_definition(file)
    )


def _named_by(config: ModelConfig) -> tuple[str, ...]:
    return config.model_file, *config.companion_files, *(each.filename for each in config.downloads)


def _is_definition(file: str) -> bool:
    return "/" not in file and file.lower().endswith((".yaml", ".yml"))


def _all(catalog: Catalog) -> tuple[ModelConfig, ...]:
    return (*catalog.models, *catalog.aliases, *catalog.disabled)


def _later_parts(file: str) -> list[str]:
    match = _PART.fullmatch(file)
    if match is None or int(match["number"]) != 1:
        return []
    count = int(match["count"])
    return [f"{match['stem']}-{number:05}-of-{count:05}.gguf" for number in range(2, count + 1)]


def _first_part(file: str) -> str:
    """The file that stands for all parts of a split model; empty for what is no part of one."""
    match = _PART.fullmatch(file)
    return f"{match['stem']}-00001-of-{match['count']}.gguf" if match else ""


def _remove(models_path: Path, filename: str) -> bool:
    """Whether the file was there. What lies outside the folder, by way of a link, stays."""
    path = models_path / filename
    try:
        if not path.parent.resolve().is_relative_to(models_path.resolve()):
            _LOG.warning("file_kept", file=filename, reason="it lies outside the models folder")
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        message = f"The file {path} cannot be removed: {reason}. Correct its permissions and try again."
        raise SetupError(message, code="models_path", detail=repr(error)) from error
    return True
