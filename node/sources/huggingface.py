"""Hugging Face references -> files to fetch (shell).

Without the ``huggingface_hub`` package: what is needed of it are two addresses and one JSON list, while it brings a
second HTTP client and a cache of its own, whose blobs and links stand beside the models folder and would keep every
model twice or hide it from people; and its downloads cannot be limited, cancelled or checked as ``fetch.py`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urljoin

import aiohttp

from localai.mesh.errors import LocalAIError, NotFound, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.http_client import read_json
from localai.node.sources.hub_listing import (
    DEFAULT_QUANTISATIONS,
    HubFile,
    choose_gguf,
    find_file,
    next_page,
    parse_tree,
)
from localai.node.sources.hub_scan import hub_scan_verdict
from localai.node.sources.local_names import safe_name
from localai.node.sources.plan import DownloadPlan, Headers, PlannedFile, Role, bearer
from localai.node.sources.redirects import origin
from localai.node.sources.safety import Finding
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits
from localai.node.sources.uri import PUBLIC_ENDPOINTS, Endpoints, HuggingFaceFile, HuggingFaceRepo, resolve_url

_MAX_PAGES = 100


async def plan_repo(
    reference: HuggingFaceRepo,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    token: Secret[str] | None = None,
    quantisations: Sequence[str] = DEFAULT_QUANTISATIONS,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> DownloadPlan:
    """The GGUF files of a repository that make up a model, below ``llama-cpp/models`` and ``llama-cpp/mmproj``.

    A quantisation in the reference counts before ``quantisations``, and must be there.

    Raises:
        LocalAIError: the repository cannot be listed, or has no such file.
    """
    files = await list_files(reference, "", session, endpoints=endpoints, token=token, limits=limits)
    if reference.quantisation:
        quantisations = (reference.quantisation,)
        if not any(reference.quantisation.lower() in file.path.lower() for file in files):
            message = (
                f"The repository {reference.repo} has no file for {reference.quantisation}. See its list of files."
            )
            raise NotFound(message, code="no_such_file")
    chosen = choose_gguf(reference.repo, files, quantisations)
    name = reference.repo.rpartition("/")[2]
    headers = bearer(token)
    models = _planned(reference, chosen.models, f"llama-cpp/models/{name}", "model", headers, endpoints)
    projectors = _planned(reference, chosen.projectors, f"llama-cpp/mmproj/{name}", "projector", headers, endpoints)
    return (*models, *projectors)


async def plan_file(
    reference: HuggingFaceFile,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    token: Secret[str] | None = None,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> DownloadPlan:
    """One file, or all parts of it, with size and hash as the repository lists them.

    Raises:
        LocalAIError: the repository cannot be listed, or has no such file.
    """
    repo = HuggingFaceRepo(reference.repo, reference.revision)
    folder = reference.path.rpartition("/")[0]
    files = await list_files(repo, folder, session, endpoints=endpoints, token=token, limits=limits)
    found = find_file(reference.repo, reference.path, files)
    return _planned(repo, found, "", "model", bearer(token), endpoints)


async def list_files(
    reference: HuggingFaceRepo,
    folder: str,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    token: Secret[str] | None = None,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> tuple[HubFile, ...]:
    """All files of a repository, or, without what is below it, of one folder; in the order of the hub.

    Raises:
        LocalAIError: it cannot be listed.
    """
    start = f"{endpoints.hugging_face}/api/models/{reference.repo}/tree/{quote(reference.revision, safe='')}"
    url = f"{start}/{quote(folder)}" if folder else f"{start}?recursive=true"
    files: list[HubFile] = []
    for _page in range(_MAX_PAGES):
        answer = await read_json(session, url, bearer(token), limits)
        files += parse_tree(answer.json())
        following = next_page(answer.headers.get("link", ""))
        if following is None:
            return tuple(files)
        url = urljoin(answer.url, following)
        if origin(url) != origin(start):
            message = f"The list of files of {reference.repo} goes on at another host. Check HF_ENDPOINT."
            raise UpstreamFailed(message, code="bad_answer", detail=url[:500])
    raise UpstreamFailed(f"The repository {reference.repo} has too many files. Name one of them.", code="bad_answer")


async def hub_scan(
    repo: str,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    token: Secret[str] | None = None,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> tuple[Finding, ...]:
    """What the hub's scan found in a repository. A scan that cannot be had is a note, not a failure."""
    try:
        answer = await read_json(session, f"{endpoints.hugging_face}/api/models/{repo}/scan", bearer(token), limits)
        return hub_scan_verdict(answer.json())
    except LocalAIError as error:
        return (Finding("note", f"The hub's scan of {repo} could not be read: {error.message}"),)


def _planned(
    reference: HuggingFaceRepo,
    files: Sequence[HubFile],
    folder: str,
    role: Role,
    headers: Headers,
    endpoints: Endpoints,
) -> DownloadPlan:
    """Files under their base names, or, where two have the same, under their whole paths."""
    addresses = [
        resolve_url(HuggingFaceFile(reference.repo, file.path, reference.revision), endpoints) for file in files
    ]
    names = [safe_name(file.path, url) for file, url in zip(files, addresses, strict=True)]
    if len(set(names)) != len(names):
        names = [safe_name(file.path.replace("/", "__"), url) for file, url in zip(files, addresses, strict=True)]
    return tuple(
        PlannedFile(f"{folder}/{name}" if folder else name, url, file.sha256, file.size, headers, role)
        for file, name, url in zip(files, names, addresses, strict=True)
    )
