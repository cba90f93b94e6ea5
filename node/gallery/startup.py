"""What is installed before a node is ready (shell): models asked for, preloads, missing files of definitions.

What cannot be had is logged and does not keep the rest away. Only a node that would be left without any model, and
alone, does not start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.bounded_yaml import load_yaml
from localai.node.gallery.galleries import read_local_text
from localai.node.gallery.gallery_index import ApplyRequest, GallerySource, parse_galleries, parse_requests
from localai.node.gallery.install import ensure_default_model
from localai.node.gallery.install_progress import OnProgress
from localai.node.gallery.recipe import Recipe, RecipeFile
from localai.node.gallery.recipe_install import fetch_files
from localai.node.gallery.references import Installer, is_present, open_installer
from localai.node.models_folder import read_catalog
from localai.node.settings import InstallSettings, Settings
from localai.node.sources.planning import SourceRules

_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Failure:
    what: str
    error: LocalAIError


async def install_missing(
    settings: Settings, on_progress: OnProgress, environment: Mapping[str, str], rules: SourceRules | None = None
) -> None:
    """Install everything that the settings ask for and that is not there; without any wish, the embedded default.

    Raises:
        LocalAIError: there is no model then, and no swarm to ask.
    """
    failures: list[_Failure] = []
    wishes = _preloads(settings.install, failures)
    if not settings.models and not wishes and not failures:
        members = rules.from_members if rules is not None else None
        await ensure_default_model(settings.models_path, on_progress, environment, members)
    present = read_catalog(settings.models_path)
    references = [text for text in settings.models if not is_present(text, present)]
    missing = await asyncio.to_thread(_missing_files, settings.models_path)
    if references or wishes or missing:
        galleries = usable_galleries(settings.install)
        async with open_installer(
            settings.models_path, environment, galleries, scan=settings.install.scan, rules=rules
        ) as installer:
            await _install_all(installer, references, wishes, missing, on_progress, failures)
    if failures and settings.swarm is None and not read_catalog(settings.models_path).models:
        _log(failures[1:])
        raise failures[0].error
    _log(failures)


def usable_galleries(install: InstallSettings) -> tuple[GallerySource, ...]:
    """The configured galleries; a list that cannot be read is logged and counts as none."""
    try:
        return parse_galleries(install.galleries)
    except InvalidRequest as error:
        _LOG.error("galleries_not_usable", problem=error.message)
        return ()


async def _install_all(
    installer: Installer,
    references: list[str],
    wishes: tuple[ApplyRequest, ...],
    missing: list[Recipe],
    on_progress: OnProgress,
    failures: list[_Failure],
) -> None:
    for text in references:
        try:
            await installer.install(text, on_progress)
        except LocalAIError as error:
            failures.append(_Failure(text, error))
    for wish in wishes:
        try:
            await installer.apply(wish, on_progress)
        except LocalAIError as error:
            failures.append(_Failure(wish.id or wish.url or wish.name, error))
    for recipe in missing:
        try:
            await fetch_files(recipe, installer.models_path, installer.session, installer.rules, on_progress)
        except LocalAIError as error:
            failures.append(_Failure(recipe.name, error))


def _log(failures: list[_Failure]) -> None:
    for failure in failures:
        error = failure.error
        _LOG.error("model_not_installed", model=failure.what[:200], problem=error.message, detail=error.detail[:500])


def _preloads(install: InstallSettings, failures: list[_Failure]) -> tuple[ApplyRequest, ...]:
    wishes: tuple[ApplyRequest, ...] = ()
    try:
        if install.preload.strip():
            wishes += parse_requests(_decoded(install.preload), "--preload-models")
        if install.preload_file is not None:
            text = read_local_text(install.preload_file)
            wishes += parse_requests(load_yaml(text, "--preload-models-config"), "--preload-models-config")
    except LocalAIError as error:
        failures.append(_Failure("preload", error))
    return wishes


def _decoded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"--preload-models is not JSON: {str(error)[:200]}.", code="invalid_preload") from error


def _missing_files(models_path: Path) -> list[Recipe]:
    """What definitions of the folder say how to fetch, and is not there (blocking)."""
    recipes = []
    for config in read_catalog(models_path).models:
        model = RecipeFile(config.model_file, config.model_uri, config.sha256)
        files = (model, *(RecipeFile(each.filename, each.uri, each.sha256) for each in config.downloads))
        missing = tuple(file for file in files if file.uri and not (models_path / file.filename).exists())
        if missing:
            recipes.append(Recipe(config.name, {}, missing, may_copy=True))
    return recipes
