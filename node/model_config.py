"""Model definitions: YAML text -> :class:`ModelConfig` values, and back (pure).

A definition file holds one mapping or a list of them. Whatever is wrong comes back as a :class:`Problem` beside the
models that are right: one broken definition never hides another, and nothing is dropped without a word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from localai.mesh.errors import InvalidRequest
from localai.node.bounded_yaml import load_yaml
from localai.node.definition_keys import BLOCKS, TOP_LEVEL

DEFAULT_BACKEND = "llama-cpp"
MAX_NAME_CHARS = 256
MAX_CONTEXT_SIZE = 1 << 24
MAX_THREADS = 1024
MAX_SLOTS = 256

_BACKEND_ALIASES = {"llama": "llama-cpp", "go-llama": "llama-cpp"}
_BACKEND_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMPANION_KEYS = ("mmproj", "draft_model", "lora_adapter", "lora_base")
_Mapping = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: its public name and how to load it. None means "not said": the node's own setting counts."""

    name: str
    model_file: str
    """Relative to the models path, with ``/`` between its parts."""
    backend: str = DEFAULT_BACKEND
    context_size: int | None = None
    """Tokens one sequence may hold."""
    threads: int | None = None
    slots: int | None = None
    """Sequences computed at once."""
    sha256: str | None = None
    """Of the model file, lower-case hex, when the definition says it. Not checked at load."""
    description: str = ""
    companion_files: tuple[str, ...] = ()
    """Other files the definition names (projector, adapters): they are not models of their own."""
    source: str = ""
    """File the definition was read from; empty for a bare model file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the models folder that needs the owner's eye."""

    source: str
    """File it is about."""
    message: str
    """One sentence or two, naming file and key."""
    model: str = ""
    """The model that is missing because of it; empty for a mere warning, or when it has no name."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one file defines."""

    models: tuple[ModelConfig, ...] = ()
    problems: tuple[Problem, ...] = ()


def parse_definitions(text: str, source: str) -> Definitions:
    """The models that the YAML in ``text`` defines, in its order. ``source`` is the file's name."""
    try:
        document = load_yaml(text, source)
    except InvalidRequest as error:
        return Definitions(problems=(Problem(source, error.message),))
    if document is None:
        return Definitions(problems=(Problem(source, f"{source} is empty. Write a definition into it or delete it."),))
    entries = document if isinstance(document, list) else [document]
    models: list[ModelConfig] = []
    problems: list[Problem] = []
    for position, entry in enumerate(entries, start=1):
        where = source if len(entries) == 1 else f"{source}, definition {position}"
        try:
            models.append(_config(entry, source, where))
        except InvalidRequest as error:
            problems.append(Problem(source, error.message, _name_if_any(entry)))
            continue
        problems += [Problem(source, message) for message in _warnings(entry, where)]
    return Definitions(tuple(models), tuple(problems))


def render_definition(config: ModelConfig, *, uri: str = "") -> str:
    """YAML text that :func:`parse_definitions` reads back as ``config``, ending in a newline.

    ``uri`` says where the model file came from; it is written beside its hash.
    """
    document: dict[str, object] = {"name": config.name}
    if config.description:
        document["description"] = config.description
    document |= {"backend": config.backend, "parameters": {"model": config.model_file}}
    document |= {
        key: value
        for key, value in (("context_size", config.context_size), ("threads", config.threads))
        if value is not None
    }
    if config.slots is not None:
        document["options"] = [f"parallel:{config.slots}"]
    downloads = [{"filename": file} for file in config.companion_files]
    if config.sha256 is not None:
        downloads.insert(0, {"filename": config.model_file, "sha256": config.sha256} | ({"uri": uri} if uri else {}))
    if downloads:
        document["download_files"] = downloads
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _config(entry: object, source: str, where: str) -> ModelConfig:
    """One entry as a value.

    Raises:
        InvalidRequest: the entry cannot be used.
    """
    if not isinstance(entry, dict):
        raise _invalid(where, "is not a mapping: write 'name: ...' and 'parameters:' with 'model: ...'")
    fields: _Mapping = entry
    name = _name(fields, where)
    parameters = _block(fields, "parameters", where)
    model_file = _path(_text(parameters, "model", where, "parameters.model") or name, "parameters.model", where)
    downloads = _downloads(fields, where)
    _flag(fields, "f16", where)
    return ModelConfig(
        name=name,
        model_file=model_file,
        backend=_backend(fields, where),
        context_size=_count(fields, "context_size", MAX_CONTEXT_SIZE, where),
        threads=_count(fields, "threads", MAX_THREADS, where),
        slots=_slots(fields, where),
        sha256=downloads.get(model_file),
        description=_text(fields, "description", where, "description"),
        companion_files=_companions(fields, downloads, model_file, where),
        source=source,
    )


def _name(fields: _Mapping, where: str) -> str:
    name = _text(fields, "name", where, "name")
    if not name.strip():
        raise _invalid(where, "has no name: add the key 'name'")
    if len(name) > MAX_NAME_CHARS or name != name.strip() or not name.isprintable():
        raise _invalid(
            where,
            f"has an unusable name: 'name' must be at most {MAX_NAME_CHARS} printable characters, no blanks around",
        )
    return name


def _backend(fields: _Mapping, where: str) -> str:
    backend = _text(fields, "backend", where, "backend").lower()
    if not backend:
        return DEFAULT_BACKEND
    if not _BACKEND_NAME.fullmatch(backend):
        raise _invalid(where, f"has an invalid backend name {backend[:60]!r}: use letters, digits, '-' and '_'")
    return _BACKEND_ALIASES.get(backend, backend)


def _path(text: str, key: str, where: str) -> str:
    if "://" in text:
        raise _invalid(where, f"names a download in '{key}': put the file into the models folder and name the file")
    parts = text.split("/")
    if text.startswith("/") or ".." in text or not text.isprintable() or not parts[-1]:
        raise _invalid(
            where, f"has an invalid file path {text[:100]!r} in '{key}': it must lie in the models folder, without '..'"
        )
    return text


def _slots(fields: _Mapping, where: str) -> int | None:
    options = fields.get("options")
    if options is None:
        return None
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise _invalid(where, "needs a list of texts like 'parallel:4' in 'options'")
    slots: int | None = None
    for option in options:
        key, _, value = option.partition(":")
        if key.strip() not in ("parallel", "n_parallel"):
            continue
        if not re.fullmatch(r"[0-9]{1,4}", value.strip()) or not 1 <= int(value) <= MAX_SLOTS:
            raise _invalid(where, f"needs a number from 1 to {MAX_SLOTS} in the option '{key.strip()}'")
        slots = int(value)
    return slots


def _downloads(fields: _Mapping, where: str) -> dict[str, str | None]:
    """File name -> SHA-256 of everything in ``download_files``."""
    entries = fields.get("download_files") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _invalid(where, "needs a list of mappings with 'filename' in 'download_files'")
    downloads: dict[str, str | None] = {}
    for entry in entries:
        filename = _text(entry, "filename", where, "download_files[].filename")
        digest = _text(entry, "sha256", where, "download_files[].sha256").lower()
        if digest and not _SHA256.fullmatch(digest):
            raise _invalid(where, "needs 64 hexadecimal digits in 'download_files[].sha256'")
        downloads[_path(filename, "download_files[].filename", where)] = digest or None
    return downloads


def _companions(fields: _Mapping, downloads: Mapping[str, object], model_file: str, where: str) -> tuple[str, ...]:
    names = [_text(fields, key, where, key) for key in _COMPANION_KEYS]
    adapters = fields.get("lora_adapters") or []
    if not isinstance(adapters, list) or not all(isinstance(adapter, str) for adapter in adapters):
        raise _invalid(where, "needs a list of file names in 'lora_adapters'")
    local = [name for name in [*names, *adapters] if name and "://" not in name]
    mmproj = fields.get("mmproj") or ""
    if mmproj in local:
        _path(mmproj, "mmproj", where)
    return tuple(dict.fromkeys(name for name in [*local, *downloads] if name != model_file))


def _text(fields: _Mapping, key: str, where: str, path: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _invalid(where, f"needs text in '{path}', not {_kind(value)}: put it in quotes")
    return value


def _count(fields: _Mapping, key: str, highest: int, where: str) -> int | None:
    """A whole number; None for nothing, 0 and -1 (``context_size: -1`` is warned about)."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= highest:
        raise _invalid(where, f"needs a whole number from 1 to {highest} in '{key}'")
    return value if value > 0 else None


def _flag(fields: _Mapping, key: str, where: str) -> None:
    if not isinstance(fields.get(key), (bool, type(None))):
        raise _invalid(where, f"needs true or false in '{key}'")


def _block(fields: _Mapping, key: str, where: str) -> _Mapping:
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(where, f"needs a mapping in '{key}', not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names: dict[type, str] = {list: "a list", dict: "a mapping", str: "text"}
    return names.get(type(value), type(value).__name__)


def _warnings(fields: _Mapping, where: str) -> list[str]:
    """What is odd about a usable entry."""
    warnings = [_unknown_key(str(key), "", TOP_LEVEL, where) for key in fields if key not in TOP_LEVEL]
    for block, known in BLOCKS.items():
        inner = fields.get(block)
        if isinstance(inner, dict):
            warnings += [_unknown_key(str(key), f"{block}.", known, where) for key in inner if key not in known]
    if fields.get("context_size") == -1:
        warnings.append(f"{where} has 'context_size: -1', the trained context, which is not known yet: it is ignored.")
    return warnings


def _unknown_key(key: str, prefix: str, known: frozenset[str], where: str) -> str:
    close = difflib.get_close_matches(key[:60], sorted(known), n=1, cutoff=0.75)
    if close:
        hint = f"did you mean '{prefix}{close[0]}'?"
    elif key in BLOCKS["parameters"] and not prefix:
        hint = f"did you mean 'parameters.{key}'?"
    elif key in TOP_LEVEL and prefix:
        hint = f"did you mean '{key}' at the top level?"
    else:
        hint = "it is ignored."
    return f"{where} has the unknown key '{prefix}{key[:60]}': {hint}"


def _name_if_any(entry: object) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _invalid(where: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{where} {problem}.", code="invalid_definition")
