"""The models folder on disk (shell): made when missing, listed for the catalogue, its files checked before use."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from localai.mesh.errors import LocalAIError, ModelLoadFailed, SetupError
from localai.node.bounded_yaml import MAX_YAML_BYTES
from localai.node.catalog import Catalog, FolderListing, catalog_from_listing
from localai.node.gguf_header import GGUF_HEADER_BYTES, parse_gguf_header
from localai.node.model_config import ModelConfig, Problem
from localai.node.sources.gguf_metadata import MAX_FRONT_BYTES, parse_gguf_front

MAX_ENTRIES = 10_000
"""Entries of the folder that are looked at; more are refused, since it is then hardly a models folder."""
_DEFINITION_ENDINGS = (".yaml", ".yml")
_TEMPLATE_ENDING = ".tmpl"


def create_models_folder(path: Path) -> Path:
    """The folder, made (mode 0750, parents too) when missing, and writable; its absolute path comes back.

    Raises:
        SetupError: it cannot be made or written to, or something else has its name.
    """
    path = path.expanduser().absolute()
    if not _is_text(str(path)):
        raise _folder_error(Path(os.fsencode(path).decode("utf-8", "replace")), "has a name that is not UTF-8")
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _folder_error(path, "is not a folder", error) from error
    except OSError as error:
        raise _folder_error(path, f"cannot be created: {_reason(error)}", error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise _folder_error(path, "cannot be written to")
    return path


def list_models_folder(path: Path) -> FolderListing:
    """What lies in the folder now. A definition that cannot be read becomes a problem in the listing.

    Raises:
        SetupError: the folder itself cannot be read, or holds more than :data:`MAX_ENTRIES` entries.
    """
    files: dict[str, int] = {}
    definitions: dict[str, str] = {}
    templates: dict[str, str] = {}
    problems: list[Problem] = []
    try:
        with os.scandir(path) as entries:
            for position, entry in enumerate(entries):
                if position >= MAX_ENTRIES:
                    raise _folder_error(path, f"holds more than {MAX_ENTRIES} entries")
                if entry.name.startswith(".") or (size := _file_size(entry)) is None:
                    continue
                if not _is_text(entry.name):
                    shown = os.fsencode(entry.name).decode("utf-8", "replace")
                    problems.append(Problem(shown, f"The name of {shown} is not UTF-8, so it is left out. Rename it."))
                    continue
                files[entry.name] = size
                if entry.name.lower().endswith(_DEFINITION_ENDINGS):
                    _read_text(Path(entry.path), size, definitions, problems)
                elif entry.name.endswith(_TEMPLATE_ENDING):
                    _read_text(Path(entry.path), size, templates, problems)
    except OSError as error:
        raise _folder_error(path, f"cannot be read: {_reason(error)}", error) from error
    named = {name.removesuffix(_TEMPLATE_ENDING): text for name, text in templates.items()}
    return FolderListing(files, definitions, tuple(problems), named)


def read_catalog(path: Path, config_file: Path | None = None) -> Catalog:
    """The models in the folder now, and those that ``config_file`` defines; files are in the folder either way.

    Raises:
        SetupError: the folder or the file cannot be read.
    """
    listing = list_models_folder(path)
    if config_file is not None:
        listing = replace(listing, config_file=(config_file.name, _config_text(config_file)))
    return catalog_from_listing(listing, lambda model_file: _name_in_file(path / model_file))


def check_model_file(models_path: Path, config: ModelConfig) -> Path:
    """The absolute path of a model's file, after a look at its header.

    Raises:
        ModelLoadFailed: the file is missing, unreadable or not a usable GGUF file.
    """
    path = models_path / config.model_file
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(GGUF_HEADER_BYTES) if stat.S_ISREG(status.st_mode) else b""
    except FileNotFoundError as error:
        message = f"The file '{config.model_file}' of model '{config.name}' is missing. Put it into the models folder."
        raise ModelLoadFailed(message, code="model_file_missing", detail=str(path)) from error
    except OSError as error:
        message = f"The file '{config.model_file}' of model '{config.name}' cannot be read: {_reason(error)}."
        raise ModelLoadFailed(message, code="bad_model_file", detail=str(path)) from error
    parse_gguf_header(head, status.st_size, config.model_file)
    return path


def _is_text(name: str) -> bool:
    """False for a name that holds bytes outside UTF-8: it cannot be sent to a client or a worker."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file_size(entry: os.DirEntry[str]) -> int | None:
    """Bytes of a regular file, or of what a link points to; None for anything else."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _read_text(path: Path, size: int, texts: dict[str, str], problems: list[Problem]) -> None:
    name = path.name
    if size > MAX_YAML_BYTES:
        problems.append(Problem(name, f"{name} is larger than {MAX_YAML_BYTES >> 20} MiB and was not read."))
        return
    try:
        with path.open("rb") as file:
            texts[name] = file.read(MAX_YAML_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(Problem(name, f"{name} is not UTF-8 text and was not read. Save it as UTF-8."))
    except OSError as error:
        problems.append(Problem(name, f"{name} cannot be read: {_reason(error)}. Correct its permissions."))


def _config_text(path: Path) -> str:
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    try:
        size = path.stat().st_size
    except OSError as error:
        problems.append(Problem(path.name, f"{path.name} cannot be read: {_reason(error)}."))
    else:
        _read_text(path, size, texts, problems)
    if problems:
        message = f"{problems[0].message} It is named by --models-config-file."
        raise SetupError(message, code="models_config_file", detail=str(path))
    return texts[path.name]


def _name_in_file(path: Path) -> str:
    """What a model file calls its model; empty when it does not say, or is no model file."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            front = file.read(MAX_FRONT_BYTES) if stat.S_ISREG(status.st_mode) else b""
        name = parse_gguf_front(front, status.st_size, path.name).metadata.get("general.name", "")
    except (OSError, ModelLoadFailed):
        return ""
    return name.strip() if isinstance(name, str) else ""


def _folder_error(path: Path, problem: str, error: OSError | None = None) -> LocalAIError:
    message = f"The models folder {path} {problem}. Correct it, or give another one with --models-path."
    return SetupError(message, code="models_path", detail=repr(error) if error else "")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
