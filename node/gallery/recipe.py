"""What an installation makes (pure): files to fetch, prompt templates, and the definition that names them.

Every way to a model ends here: an entry of a gallery, a definition from elsewhere, or files that were asked for by
their address, for which :func:`recipe_of_files` writes the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from localai.mesh.errors import InvalidRequest
from localai.node.bounded_yaml import write_yaml
from localai.node.model_config import parse_definitions
from localai.node.sources.local_names import MAX_NAME_BYTES, local_name
from localai.node.sources.plan import DownloadPlan, PlannedFile
from localai.node.sources.uri import (
    DEFAULT_TAG,
    GalleryName,
    GitHubFile,
    HuggingFaceFile,
    HuggingFaceRepo,
    OciImage,
    OllamaModel,
    Reference,
    parse_reference,
)

Document = Mapping[str, Any]
"""A definition as its YAML has it."""
_GGUF = ".gguf"
_IMPORTED = "Imported from "
MAX_FILES = 512


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """One file. ``uri`` is any reference to a file; ``planned`` is set when it was asked for already."""

    filename: str
    """Where it goes, relative to the models folder."""
    uri: str
    sha256: str | None = None
    planned: PlannedFile | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model to install. ``may_copy`` allows files of this machine: never for what came from elsewhere."""

    name: str
    document: Document
    files: tuple[RecipeFile, ...] = ()
    templates: tuple[tuple[str, str], ...] = ()
    """Names without ``.tmpl``, and texts."""
    may_copy: bool = False


def model_name(reference: Reference) -> str:
    """What a model that is installed by this reference is called: the last part, without ``.gguf``."""
    match reference:
        case HuggingFaceRepo(repo):
            return repo.rpartition("/")[2]
        case OllamaModel(name, tag):
            return _tagged(name, tag)
        case OciImage(_, repository, tag):
            return _tagged(repository, tag)
        case GalleryName(_, name):
            return name
    name = local_name(reference)
    return name[: -len(_GGUF)] if name.lower().endswith(_GGUF) and len(name) > len(_GGUF) else name


def is_definition(reference: Reference) -> bool:
    """Whether a reference leads to a definition instead of a model file."""
    match reference:
        case HuggingFaceFile(_, path, _) | GitHubFile(_, _, path, _):
            return _is_yaml(path)
        case HuggingFaceRepo() | OllamaModel() | OciImage() | GalleryName():
            return False
    return _is_yaml(local_name(reference))


def imported_from(text: str) -> str:
    """The description of a model that was installed by this reference."""
    return _IMPORTED + text


def is_import_of_another(description: str, text: str) -> bool:
    """Whether a model with this description came from another reference than ``text``."""
    return description.startswith(_IMPORTED) and description != imported_from(text)


def recipe_of_files(name: str, text: str, plan: DownloadPlan, *, has_lasting_urls: bool) -> Recipe:
    """The recipe for files that ``text`` asked for. The first one is the model.

    Without ``has_lasting_urls`` the definition keeps ``text`` itself, because the addresses need a fresh token.
    """
    files = tuple(
        RecipeFile(file.filename, file.url if has_lasting_urls else text, file.sha256, planned=file) for file in plan
    )
    document: dict[str, Any] = {
        "name": name,
        "description": imported_from(text),
        "backend": "llama-cpp",
        "parameters": {"model": plan[0].filename},
        "known_usecases": ["chat"],
        "options": ["use_jinja:true"],
        "template": {"use_tokenizer_template": True},
    }
    if projector := next((file.filename for file in plan if file.role == "projector"), None):
        document["mmproj"] = projector
    return Recipe(name, document, files, may_copy=True)


def without_plan(recipe: Recipe) -> Recipe:
    """The recipe whose files are fetched by their ``uri`` alone, whatever was planned."""
    return replace(recipe, files=tuple(replace(file, planned=None) for file in recipe.files))


def recipe_of_document(document: object, where: str, *, may_copy: bool = False) -> Recipe:
    """The recipe of a definition, whose ``download_files`` say what to fetch.

    Raises:
        InvalidRequest: it is not one mapping, has no name, or a file in it has no usable name.
    """
    if not isinstance(document, dict) or not isinstance(name := document.get("name"), str) or not name:
        raise InvalidRequest(f"{where} is not one definition with a 'name'. Correct it.", code="invalid_definition")
    files = [file for file in parse_files(document.get("download_files"), where) if file.uri]
    parameters = document.get("parameters")
    if isinstance(parameters, dict) and (file := _addressed(parameters.get("model"), where)):
        document = {**document, "parameters": {**parameters, "model": file.filename}}
        files.append(file)
    if file := _addressed(document.get("mmproj"), where):
        document = {**document, "mmproj": file.filename}
        files.append(file)
    return Recipe(name, document, tuple({file.filename: file for file in files}.values()), may_copy=may_copy)


def _addressed(value: object, where: str) -> RecipeFile | None:
    """The file that a definition names by its address; None for a plain file name, or nothing."""
    if not isinstance(value, str) or not ("://" in value or value.startswith(("github:", "pypi:"))):
        return None
    reference = parse_reference(value)
    if isinstance(reference, HuggingFaceRepo | GalleryName):
        message = f"{where} names {value[:200]!r}, which is no single file. Name one file of it."
        raise InvalidRequest(message, code="invalid_definition")
    return RecipeFile(local_name(reference), value)


def parse_files(value: object, where: str) -> tuple[RecipeFile, ...]:
    """A list of ``{filename, sha256, uri}``; nothing for None.

    Raises:
        InvalidRequest: it is something else.
    """
    entries = value or []
    if not isinstance(entries, list) or len(entries) > MAX_FILES:
        raise InvalidRequest(f"{where} needs a list of files, at most {MAX_FILES}.", code="invalid_definition")
    files = []
    for entry in entries:
        filename = entry.get("filename") if isinstance(entry, dict) else None
        uri, sha256 = (entry.get("uri") or "", entry.get("sha256") or "") if isinstance(entry, dict) else ("", "")
        if not isinstance(filename, str) or not isinstance(uri, str) or not isinstance(sha256, str):
            message = f"{where} has a file without 'filename', or whose 'uri' or 'sha256' is no text."
            raise InvalidRequest(message, code="invalid_definition")
        check_filename(filename)
        files.append(RecipeFile(filename, uri, sha256.lower() or None))
    return tuple(files)


def check_filename(filename: str) -> None:
    """Accept a path that stays in the models folder and is no hidden file of it.

    Raises:
        InvalidRequest: it is not.
    """
    parts = filename.split("/")
    is_odd = "\\" in filename or not filename.isprintable() or len(parts) > 16
    if is_odd or any(not part or part.startswith(".") or len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise InvalidRequest(
            f"The file name {filename[:100]!r} leads out of the models folder, or is a hidden or impossible one.",
            code="invalid_path",
        )


def definition_filename(name: str) -> str:
    """The file that defines the model.

    Raises:
        InvalidRequest: no file can be called so.
    """
    filename = f"{name.replace('/', '__').replace(':', '__')}.yaml"
    check_filename(filename)
    return filename


def with_files(recipe: Recipe, hashes: Mapping[str, str]) -> Recipe:
    """The recipe whose definition lists its files with the hashes that were found, by file name."""
    known = {file.filename for file in recipe.files}
    others = [each for each in recipe.document.get("download_files") or [] if each.get("filename") not in known]
    listed = [
        {"filename": file.filename, "sha256": hashes.get(file.filename) or file.sha256, "uri": file.uri}
        for file in recipe.files
    ]
    entries = [{key: value for key, value in each.items() if value} for each in (*listed, *others)]
    return replace(recipe, document={**recipe.document, **({"download_files": entries} if entries else {})})


def render_recipe(recipe: Recipe) -> str:
    """The text of the definition.

    MCP servers run programs and are told what is said. So only a definition of this machine's owner may name them;
    what came from elsewhere, or in a request, loses them.

    Raises:
        InvalidRequest: this is no definition that can be used.
    """
    document = {**recipe.document, "name": recipe.name}
    if not recipe.may_copy:
        document.pop("mcp", None)
    text = write_yaml(_plain(document))
    definitions = parse_definitions(text, definition_filename(recipe.name))
    if not definitions.models:
        raise InvalidRequest(definitions.problems[0].message, code="invalid_definition")
    return text


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``: mappings are merged, everything else, lists too, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both and below is not None else value
    return merged


def _plain(value: Any) -> Any:
    """A copy without shared parts, so that the text has no anchors."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _tagged(path: str, tag: str) -> str:
    name = path.rpartition("/")[2]
    return name if tag == DEFAULT_TAG else f"{name}:{tag.removeprefix('sha256:')[:12]}"


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))
