"""GitHub references -> the file to fetch (pure)."""

from __future__ import annotations

from localai.mesh.secrets import Secret
from localai.node.sources.local_names import local_name
from localai.node.sources.plan import DownloadPlan, PlannedFile, bearer
from localai.node.sources.uri import PUBLIC_ENDPOINTS, Endpoints, GitHubFile, resolve_url


def plan_github(
    reference: GitHubFile, *, endpoints: Endpoints = PUBLIC_ENDPOINTS, token: Secret[str] | None = None
) -> DownloadPlan:
    """The raw content of one file; neither its hash nor its size are known."""
    name = local_name(reference)
    return (PlannedFile(name, resolve_url(reference, endpoints), headers=bearer(token), role="other"),)
