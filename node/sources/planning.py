"""Any reference -> the files to fetch for it (shell): one place that knows which source answers for which form."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, assert_never

import aiohttp
import structlog

from localai.mesh.errors import Unsupported
from localai.mesh.secrets import Secret
from localai.node.sources.github import plan_github
from localai.node.sources.huggingface import hub_scan, plan_file, plan_repo
from localai.node.sources.local_names import local_name
from localai.node.sources.oci import plan_oci
from localai.node.sources.ollama import plan_ollama
from localai.node.sources.plan import DownloadPlan, PlannedFile
from localai.node.sources.safety import name_findings, raise_if_refused
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits
from localai.node.sources.uri import (
    PUBLIC_ENDPOINTS,
    Endpoints,
    GitHubFile,
    HttpsUrl,
    HuggingFaceFile,
    HuggingFaceRepo,
    OciImage,
    OllamaModel,
)

_LOG = structlog.get_logger()
_HUB_NAMES = ("HF_MIRROR", "HF", "HF_ENDPOINT")
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

Remote: TypeAlias = HuggingFaceFile | HuggingFaceRepo | OllamaModel | OciImage | GitHubFile | HttpsUrl
"""References to what another machine has."""


FromMembers: TypeAlias = Callable[[str, Path, Callable[[int, int], None]], Awaitable[Path | None]]
"""Given a SHA-256, a target and where to report bytes: a checked copy beside the target, or None."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """How sources are asked. ``scan`` asks the hub first what its scan of the files found.

    ``from_members`` is asked before any source for a file whose hash is known; None is no swarm.
    """

    endpoints: Endpoints = PUBLIC_ENDPOINTS
    hub_token: Secret[str] | None = None
    scan: bool = True
    limits: FetchLimits = DEFAULT_LIMITS
    from_members: FromMembers | None = None
    architecture: str = field(default_factory=lambda: _ARCHITECTURES.get(platform.machine().lower(), "amd64"))
    """Of this machine, as Go names it: which image of several is taken."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What pip gets its settings from; may hold secrets."""


def source_rules(environment: Mapping[str, str], *, scan: bool = True) -> SourceRules:
    """Rules with the mirror and the token of the environment.

    The mirror is the first of ``HF_MIRROR``, ``HF`` and ``HF_ENDPOINT``, ``https://`` where it has no scheme; the
    token is ``HF_TOKEN``.
    """
    mirror = next((environment[name].strip() for name in _HUB_NAMES if environment.get(name, "").strip()), "")
    if mirror and "://" not in mirror:
        mirror = f"https://{mirror}"
    token = environment.get("HF_TOKEN", "")
    endpoints = Endpoints(hugging_face=mirror.rstrip("/")) if mirror else PUBLIC_ENDPOINTS
    return SourceRules(endpoints, Secret(token) if token else None, scan, environment=environment)


async def plan_reference(reference: Remote, session: aiohttp.ClientSession, rules: SourceRules) -> DownloadPlan:
    """The files of a reference: weights and projector where it is a model, the one file where it is a file.

    Of an image without a model file these are its archives, which ``image.py`` fetches and unpacks.

    Raises:
        Unsupported: an image with neither a model file nor an archive in it.
        Forbidden: a file that can run programs when it is loaded, or that the hub's scan found unsafe.
        LocalAIError: the source cannot be reached, or has no such thing.
    """
    plan = await _plan(reference, session, rules)
    for file in plan:
        raise_if_refused(name_findings(file.filename))
    if rules.scan and isinstance(reference, HuggingFaceFile | HuggingFaceRepo):
        await _check_scan(reference.repo, session, rules)
    return plan


async def _plan(reference: Remote, session: aiohttp.ClientSession, rules: SourceRules) -> DownloadPlan:
    endpoints, limits = rules.endpoints, rules.limits
    match reference:
        case HuggingFaceRepo():
            return await plan_repo(reference, session, endpoints=endpoints, token=rules.hub_token, limits=limits)
        case HuggingFaceFile():
            return await plan_file(reference, session, endpoints=endpoints, token=rules.hub_token, limits=limits)
        case OllamaModel():
            return (await plan_ollama(reference, session, endpoints=endpoints, limits=limits)).files
        case OciImage():
            plan = await plan_oci(
                reference, session, endpoints=endpoints, architecture=rules.architecture, limits=limits
            )
            return _model_files(reference, plan)
        case GitHubFile():
            return plan_github(reference, endpoints=endpoints)
        case HttpsUrl(url):
            return (PlannedFile(local_name(reference), url),)
        case _:
            assert_never(reference)


def _model_files(reference: OciImage, plan: DownloadPlan) -> DownloadPlan:
    if any(file.role == "model" for file in plan):
        return tuple(file for file in plan if file.role in ("model", "projector"))
    archives = tuple(file for file in plan if file.role == "archive")
    if not archives:
        message = f"The image {reference.repository} has no layer that is a model file. Use another image."
        raise Unsupported(message, code="unsupported_model")
    return archives


async def _check_scan(repo: str, session: aiohttp.ClientSession, rules: SourceRules) -> None:
    findings = await hub_scan(repo, session, endpoints=rules.endpoints, token=rules.hub_token, limits=rules.limits)
    raise_if_refused(findings)
    for finding in findings:
        _LOG.info("hub_scan", repo=repo, finding=finding.sentence)
