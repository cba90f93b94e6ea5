"""The command ``localai util hf-scan`` (shell): files that are here by their content, repositories by their names."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.catalog import Catalog
from localai.node.gallery.gallery_index import ApplyRequest, IndexEntry, parse_galleries, split_name
from localai.node.gallery.references import (
    Installer,
    built_in_entry,
    installed,
    may_be_name,
    not_found,
    open_installer,
)
from localai.node.model_config import ModelConfig
from localai.node.models_folder import list_models_folder, read_catalog
from localai.node.options import UsageError, Values
from localai.node.scan_report import ScanRow, exit_code, render_scan
from localai.node.sources.file_check import check_file
from localai.node.sources.hub_listing import HubFile, find_file
from localai.node.sources.huggingface import hub_scan, list_files
from localai.node.sources.planning import SourceRules, source_rules
from localai.node.sources.safety import Finding, name_findings
from localai.node.sources.uri import (
    GalleryName,
    HuggingFaceFile,
    HuggingFaceRepo,
    LocalFile,
    parse_reference,
)

_NOT_MODEL_FILES = (".yaml", ".yml", ".tmpl")
_NO_MODEL = "-"


def scan_models(
    values: Values,
    texts: Sequence[str],
    environment: Mapping[str, str],
    columns: int,
    rules: SourceRules | None = None,
) -> int:
    """Print what was found in models or repositories, or in the whole models folder; get the exit code.

    ``columns`` is the width of the terminal.

    Raises:
        UsageError: there is no models folder.
        InvalidRequest: the galleries cannot be read.
    """
    path = values["models_path"]
    if not isinstance(path, PurePath):
        raise UsageError("--models-path must name a directory, it cannot be empty")
    rules = rules or source_rules(environment, scan=values["disable_predownload_scan"] is not True)
    rows = asyncio.run(_scan(Path(path), str(values["galleries"] or ""), texts, environment, rules))
    sys.stdout.write(render_scan(rows, columns))
    return exit_code(rows)


async def _scan(
    models_path: Path, galleries: str, texts: Sequence[str], environment: Mapping[str, str], rules: SourceRules
) -> list[ScanRow]:
    async with open_installer(models_path, environment, parse_galleries(galleries), rules=rules) as installer:
        scan = _Scan(installer)
        if not texts:
            return await _attempt("models folder", scan.folder())
        return [row for text in texts for row in await _attempt(text, scan.target(text))]


async def _attempt(model: str, work: Awaitable[list[ScanRow]]) -> list[ScanRow]:
    try:
        return await work
    except LocalAIError as error:
        return [_unseen(model, "not looked at", error.message)]


@dataclass(slots=True)
class _Scan:
    """One run: no repository is asked about twice."""

    installer: Installer
    _asked: set[str] = field(default_factory=set)

    async def folder(self) -> list[ScanRow]:
        """All models of the folder, and what else in it is wrong."""
        folder = self.installer.models_path
        catalog = read_catalog(folder)
        configs = [config for config in (*catalog.models, *catalog.disabled) if config.model_file]
        rows = [row for config in configs for row in await self._model(config)]
        seen = {row.what for row in rows}
        others = [name for name in sorted(list_models_folder(folder).files) if name not in seen]
        strays = [_local(_NO_MODEL, folder, name) for name in others if not name.lower().endswith(_NOT_MODEL_FILES)]
        return [*rows, *(row for row in strays if row.verdict != "ok")]

    async def target(self, text: str) -> list[ScanRow]:
        """What one text names: a model that is here, one of a gallery, a repository or file of the hub, a file.

        Raises:
            LocalAIError: it names nothing, or what it names cannot be asked about.
        """
        folder = self.installer.models_path
        config = installed(text, read_catalog(folder) if folder.is_dir() else Catalog())
        if config is not None and config.model_file:
            return await self._model(config)
        if built_in_entry(text) is not None:
            return [ScanRow(text, "built-in gallery: its files are pinned by their hashes")]
        galleries = self.installer.galleries
        if galleries.knows(split_name(text)[0]):
            if (entry := await galleries.find(text)) is None:
                raise not_found(text)
            return await self._entry(entry)
        reference = parse_reference(text, self.installer.rules.endpoints)
        if may_be_name(text, reference) and (entry := await galleries.find(text)):
            return await self._entry(entry)
        match reference:
            case GalleryName():
                raise not_found(text)
            case HuggingFaceRepo():
                files = await self._listing(reference, "")
                return [_listed(text, files), *await self._hub(text, reference.repo)]
            case HuggingFaceFile(repo, path, revision):
                listing = await self._listing(HuggingFaceRepo(repo, revision), path.rpartition("/")[0])
                return [_listed(text, find_file(repo, path, listing)), *await self._hub(text, repo)]
            case LocalFile(path):
                path = path.expanduser()
                return [_local(path.name, path.parent, path.name)]
        message = "Only Hugging Face can be asked about its files. Install the model: its files are looked at then."
        raise InvalidRequest(message, code="no_scan")

    async def _model(self, config: ModelConfig) -> list[ScanRow]:
        names = (config.model_file, *config.companion_files, *(each.filename for each in config.downloads))
        rows = [_local(config.name, self.installer.models_path, name) for name in dict.fromkeys(names)]
        uris = [(config.model_uri, config.sha256), *((each.uri, each.sha256) for each in config.downloads)]
        return [*rows, *await self._hubs(config.name, uris)]

    async def _entry(self, entry: IndexEntry) -> list[ScanRow]:
        recipe = await self.installer.galleries.recipe(entry, ApplyRequest())
        files = tuple(HubFile(file.filename, None, None) for file in recipe.files)
        uris = [(file.uri, file.sha256) for file in recipe.files]
        return [_listed(entry.name, files), *await self._hubs(entry.name, uris)]

    async def _hubs(self, model: str, uris: Iterable[tuple[str, str | None]]) -> list[ScanRow]:
        """What the hub says of every repository that the files come from."""
        repos: list[str] = []
        for uri, sha256 in uris:
            try:
                reference = parse_reference(uri, self.installer.rules.endpoints, sha256=sha256) if uri else None
            except InvalidRequest:
                continue  # it cannot be fetched either
            if isinstance(reference, HuggingFaceFile | HuggingFaceRepo):
                repos.append(reference.repo)
        return [row for repo in dict.fromkeys(repos) for row in await self._hub(model, repo)]

    async def _hub(self, model: str, repo: str) -> list[ScanRow]:
        rules = self.installer.rules
        if not rules.scan or repo in self._asked:
            return []
        self._asked.add(repo)
        findings = await hub_scan(
            repo, self.installer.session, endpoints=rules.endpoints, token=rules.hub_token, limits=rules.limits
        )
        is_known = all(finding.severity != "note" for finding in findings)
        return [ScanRow(model, f"the hub's own scan of {repo}", findings, seen=is_known)]

    async def _listing(self, repo: HuggingFaceRepo, folder: str) -> tuple[HubFile, ...]:
        rules = self.installer.rules
        return await list_files(
            repo, folder, self.installer.session, endpoints=rules.endpoints, token=rules.hub_token, limits=rules.limits
        )


def _local(model: str, folder: Path, name: str) -> ScanRow:
    """A file that should be here (blocking)."""
    try:
        return ScanRow(model, name, check_file(folder / name))
    except FileNotFoundError:
        return _unseen(model, name, "It is not here.")
    except OSError as error:
        return _unseen(model, name, f"It cannot be read: {error.strerror}.")


def _listed(model: str, files: Sequence[HubFile]) -> ScanRow:
    findings = tuple(finding for file in files for finding in name_findings(file.path))
    count = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    return ScanRow(model, f"names of {count}", findings)


def _unseen(model: str, what: str, why: str) -> ScanRow:
    return ScanRow(model, what, (Finding("note", why),), seen=False)
