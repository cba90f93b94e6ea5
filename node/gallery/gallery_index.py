"""LocalAI's galleries understood (pure): lists of galleries, indexes, base files, requests, and the recipe of them all.

An index is a YAML list of entries. An entry's definition is that of its base file (``url``, or ``config_file`` in
place) with ``overrides`` merged over it; base file, request and entry may each name files. Source: LocalAI's gallery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from localai.mesh.errors import InvalidRequest
from localai.node.bounded_yaml import MAX_YAML_BYTES, load_yaml
from localai.node.gallery.index_parts import split_list
from localai.node.gallery.recipe import Recipe, RecipeFile, merge, parse_files, recipe_of_document
from localai.node.model_config import MAX_NAME_CHARS
from localai.node.sources.uri import MAX_REFERENCE_CHARS

BUILT_IN = "localai-mesh"
"""Name of the gallery that is part of this program."""
MAX_GALLERIES = 32
MAX_MIRRORS = 8
"""Of one gallery."""
MAX_INDEX_BYTES = 16 << 20
"""LocalAI's own has 2.4 MB."""
MAX_REQUESTS = 256


@dataclass(frozen=True, slots=True)
class GallerySource:
    """A gallery, and where its index is: any reference to a file."""

    name: str
    url: str
    mirrors: tuple[str, ...] = ()
    """Where else the same index is, asked in this order when ``url`` fails."""


PUBLIC_GALLERY = GallerySource("localai", "github:mudler/LocalAI/gallery/index.yaml@master")
"""LocalAI's own, asked only for models that are named ``localai@...``, unless it is configured."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One model of an index."""

    gallery: GallerySource
    name: str
    url: str = ""
    config: Mapping[str, Any] | None = None
    """The base definition, where it is written in place."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[RecipeFile, ...] = ()
    description: str = ""
    licence: str = ""
    icon: str = ""
    urls: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    size: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """The entries that can be used, and why others cannot."""

    entries: tuple[IndexEntry, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseFile:
    """What entries have in common."""

    name: str = ""
    description: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[RecipeFile, ...] = ()
    templates: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """A wish for a model: of a gallery by ``id``, or of the base file at ``url``, or of ``config`` itself.

    ``name`` is another name for it; ``overrides`` and ``files`` come on top.
    """

    id: str = ""
    url: str = ""
    name: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[RecipeFile, ...] = ()
    config: Mapping[str, Any] | None = None


def parse_galleries(text: str) -> tuple[GallerySource, ...]:
    """The galleries of ``--galleries``; none for an empty text.

    Raises:
        InvalidRequest: it is not JSON of that form.
    """
    if not text.strip():
        return ()
    example = '[{"name": "...", "url": "..."}]'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"The list of galleries is not JSON such as {example}."
        raise InvalidRequest(message, code="invalid_galleries") from error
    entries = value if isinstance(value, list) and len(value) <= MAX_GALLERIES else [None]
    galleries = []
    for entry in entries:
        keys = entry if isinstance(entry, dict) else {}
        name, url, mirrors = keys.get("name"), keys.get("url"), keys.get("mirrors")
        if not isinstance(name, str) or not isinstance(url, str) or not name or not url or "@" in name:
            message = f"The list of galleries must be of at most {MAX_GALLERIES} entries such as {example}."
            raise InvalidRequest(message, code="invalid_galleries")
        galleries.append(GallerySource(name, url, _mirrors(mirrors, name)))
    return tuple(galleries)


def parse_index(text: str, gallery: GallerySource) -> Index:
    """The entries of an index; one that cannot be used becomes a problem.

    Raises:
        InvalidRequest: this is no index.
    """
    where = f"The index of gallery '{gallery.name}'"
    if len(text) > MAX_INDEX_BYTES:
        raise InvalidRequest(f"{where} is larger than {MAX_INDEX_BYTES >> 20} MiB.", code="invalid_gallery")
    values: list[object] = []
    for part in split_list(text, MAX_YAML_BYTES):
        value = load_yaml(part.text, where)
        if not isinstance(value, list):
            raise InvalidRequest(f"{where} is not a list. Check its address.", code="invalid_gallery")
        values += value[part.borrowed :]
    entries, problems = [], []
    for position, each in enumerate(values, start=1):
        try:
            entries.append(_entry(each, gallery, f"{where}, entry {position}"))
        except InvalidRequest as error:
            problems.append(error.message)
    return Index(tuple(entries), tuple(problems))


def parse_base_file(text: str, where: str) -> BaseFile:
    """A base file, or a plain definition, which serves as one.

    Raises:
        InvalidRequest: it is neither.
    """
    value = _load_repaired(text, where)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} is not a mapping. Check its address.", code="invalid_gallery")
    if "config_file" not in value:
        return BaseFile(
            _text(value, "name"), _text(value, "description"), value, parse_files(value.get("files"), where)
        )
    config = value["config_file"]
    if isinstance(config, str):
        config = _load_repaired(config, f"{where}, config_file")
    templates = value.get("prompt_templates") or []
    if not isinstance(config, dict | None) or not isinstance(templates, list):
        raise InvalidRequest(
            f"{where} has a 'config_file' or 'prompt_templates' of a wrong type.", code="invalid_gallery"
        )
    return BaseFile(
        _text(value, "name"),
        _text(value, "description"),
        config or {},
        parse_files(value.get("files"), where),
        tuple((_text(each, "name"), _text(each, "content")) for each in templates if isinstance(each, dict)),
    )


def parse_requests(value: object, where: str) -> tuple[ApplyRequest, ...]:
    """The list of ``--preload-models``, decoded.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, list) or len(value) > MAX_REQUESTS or not all(isinstance(each, dict) for each in value):
        message = f'{where} must be a list of at most {MAX_REQUESTS} mappings such as {{"id": "gallery@name"}}.'
        raise InvalidRequest(message, code="invalid_preload")
    return tuple(parse_request(each, where) for each in value)


def parse_request(value: Mapping[str, Any], where: str) -> ApplyRequest:
    """One wish, decoded from JSON or YAML.

    Raises:
        InvalidRequest: a value has a wrong type.
    """
    overrides, config = value.get("overrides") or {}, value.get("config_file")
    if not isinstance(overrides, dict) or not isinstance(config, dict | None):
        raise InvalidRequest(f"{where} needs mappings in 'overrides' and 'config_file'.", code="invalid_request")
    files = parse_files(value.get("files"), where)
    return ApplyRequest(_text(value, "id"), _text(value, "url"), _text(value, "name"), overrides, files, config)


def check_lengths(request: ApplyRequest) -> None:
    """Accept a wish whose name and references are not longer than any that can be carried out.

    Raises:
        InvalidRequest: one is.
    """
    check_name_length(request.name)
    references = {"id": request.id, "url": request.url}
    references["files[].uri"] = max((file.uri for file in request.files), key=len, default="")
    for key, value in references.items():
        if len(value) > MAX_REFERENCE_CHARS:
            message = f"'{key}' has more than {MAX_REFERENCE_CHARS} characters. Give a shorter one."
            raise InvalidRequest(message, code="invalid_request", param=key)


def check_name_length(name: str) -> None:
    """Accept a name that is not longer than a model's may be.

    Raises:
        InvalidRequest: it is.
    """
    if len(name) > MAX_NAME_CHARS:
        message = f"The name of the model has more than {MAX_NAME_CHARS} characters. Give a shorter one."
        raise InvalidRequest(message, code="invalid_request", param="name")


def split_name(text: str) -> tuple[str, str]:
    """Gallery (empty for any) and model of ``gallery@name``."""
    gallery, at, name = text.rpartition("@")
    return (gallery, name) if at else ("", text)


def same_name(left: str, right: str) -> bool:
    """Whether two names mean the same model: case does not count, and ``/`` may be written ``__``."""
    return left.replace("/", "__").casefold() == right.replace("/", "__").casefold()


def build_recipe(entry: IndexEntry, base: BaseFile, request: ApplyRequest) -> Recipe:
    """What to install for an entry.

    Raises:
        InvalidRequest: the entry says nothing that could be installed.
    """
    document = merge(base.config, entry.config or {})
    document = merge(merge(document, entry.overrides), request.overrides)
    files = {file.filename: file for file in (*base.files, *request.files, *entry.files)}
    if not document and not files:
        raise InvalidRequest(
            f"The model '{entry.name[:100]}' has neither a definition nor files.", code="invalid_gallery"
        )
    name = request.name or entry.name or base.name or str(document.get("name") or "")
    if description := entry.description or base.description:
        document.setdefault("description", description)
    recipe = recipe_of_document({**document, "name": name}, f"The definition of '{name[:100]}'")
    files = {file.filename: file for file in recipe.files} | files
    return replace(recipe, files=tuple(files.values()), templates=base.templates)


def _mirrors(value: object, gallery: str) -> tuple[str, ...]:
    mirrors = [] if value is None else value
    if not isinstance(mirrors, list) or len(mirrors) > MAX_MIRRORS or not all(_is_filled(each) for each in mirrors):
        message = f"The 'mirrors' of gallery '{gallery[:100]}' must be a list of at most {MAX_MIRRORS} addresses."
        raise InvalidRequest(message, code="invalid_galleries")
    return tuple(dict.fromkeys(mirrors))


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _entry(value: object, gallery: GallerySource, where: str) -> IndexEntry:
    if not isinstance(value, dict) or not (name := _text(value, "name")):
        raise InvalidRequest(f"{where} has no name.", code="invalid_gallery")
    overrides, config = value.get("overrides") or {}, value.get("config_file")
    if isinstance(config, str):
        config = _load_repaired(config, f"{where}, config_file")
    if not isinstance(overrides, dict) or not isinstance(config, dict | None):
        raise InvalidRequest(f"{where} needs mappings in 'overrides' and 'config_file'.", code="invalid_gallery")
    return IndexEntry(
        gallery,
        name,
        _text(value, "url"),
        config,
        overrides,
        parse_files(value.get("files"), where),
        _text(value, "description"),
        _text(value, "license"),
        _text(value, "icon"),
        _texts(value, "urls"),
        _texts(value, "tags"),
        _text(value, "size"),
    )


def _load_repaired(text: str, where: str) -> object:
    r"""The value; some of LocalAI's own files have ``\'`` in double quotes, which only its parser takes."""
    try:
        return load_yaml(text, where)
    except InvalidRequest:
        if "\\'" not in text:
            raise
    return load_yaml(text.replace("\\'", "'"), where)


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else "" if found is None or isinstance(found, dict | list) else str(found)


def _texts(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = value.get(key)
    return tuple(str(each) for each in found) if isinstance(found, list) else ()
