"""OCI references -> layers to fetch (shell): the token a registry wants, the manifest, the blobs."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import aiohttp

from localai.mesh.errors import Unauthenticated, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.http_client import Answer, check_success, read_answer
from localai.node.sources.local_names import local_name, safe_name
from localai.node.sources.oci_manifest import (
    ACCEPT,
    Layer,
    choose_manifest,
    is_index,
    parse_challenge,
    parse_layers,
)
from localai.node.sources.plan import DownloadPlan, Headers, PlannedFile, bearer
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits, wrong_hash
from localai.node.sources.uri import PUBLIC_ENDPOINTS, Endpoints, OciImage

MAX_MANIFEST_BYTES = 4 << 20
MAX_TOKEN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password at one registry."""

    user: str
    password: Secret[str]

    def headers(self) -> Headers:
        """The header that shows them."""
        text = base64.b64encode(f"{self.user}:{self.password.reveal()}".encode()).decode()
        return (("Authorization", Secret(f"Basic {text}")),)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an image consists of, and what its blobs are fetched with."""

    base_url: str
    """``<registry>/v2/<repository>``."""
    layers: tuple[Layer, ...]
    headers: Headers

    def blob_url(self, layer: Layer) -> str:
        """The address of a layer."""
        return f"{self.base_url}/blobs/sha256:{layer.sha256}"


async def plan_oci(
    reference: OciImage,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    login: Login | None = None,
    architecture: str = "amd64",
    limits: FetchLimits = DEFAULT_LIMITS,
) -> DownloadPlan:
    """The layers of an image. A single one is called as the reference, others by their titles or numbers.

    Layers of container images have the role ``archive``: they are to be unpacked, in this order. ``architecture`` is
    named as Go does. The token in the headers lasts some minutes; after that, plan again.

    Raises:
        LocalAIError: the registry cannot be reached or refuses, or the image has nothing for this machine.
    """
    registry_url = endpoints.registry(reference.registry)
    manifest = await read_manifest(
        registry_url,
        reference.repository,
        reference.reference,
        session,
        login=login,
        architecture=architecture,
        limits=limits,
    )
    name = local_name(reference)
    single = len(manifest.layers) == 1
    planned = tuple(
        PlannedFile(
            name if single else _layer_name(name, number, layer),
            manifest.blob_url(layer),
            layer.sha256,
            layer.size,
            manifest.headers,
            layer.role,
        )
        for number, layer in enumerate(manifest.layers, start=1)
    )
    if len({file.filename for file in planned}) != len(planned):
        message = f"The image {reference.repository} has two layers with the same file name. Use another."
        raise UpstreamFailed(message, code="bad_answer")
    return tuple(sorted(planned, key=lambda file: file.role != "model"))


async def read_manifest(
    registry_url: str,
    repository: str,
    reference: str,
    session: aiohttp.ClientSession,
    *,
    login: Login | None = None,
    architecture: str = "amd64",
    limits: FetchLimits = DEFAULT_LIMITS,
) -> Manifest:
    """The manifest of an image, through an index if there is one.

    Raises:
        LocalAIError: it cannot be had.
    """
    base_url = f"{registry_url}/v2/{repository}"
    headers: Headers = ()
    for _level in range(2):
        url = f"{base_url}/manifests/{reference}"
        answer, headers = await _ask(url, repository, registry_url, session, headers, login, limits)
        value = _checked_json(answer, reference)
        if not is_index(value):
            return Manifest(base_url, parse_layers(value, registry_url), headers)
        reference = choose_manifest(value, architecture, registry_url)
    message = f"The image {repository} is a list of lists of images. Use another."
    raise UpstreamFailed(message, code="bad_answer")


async def read_blob(
    manifest: Manifest, layer: Layer, session: aiohttp.ClientSession, *, max_bytes: int, limits: FetchLimits
) -> bytes:
    """A small layer, its hash checked.

    Raises:
        LocalAIError: it cannot be had, is longer than ``max_bytes``, or is not what the manifest says.
    """
    url = manifest.blob_url(layer)
    answer = await read_answer(session, url, manifest.headers, limits, max_bytes=max_bytes)
    check_success(answer)
    found = hashlib.sha256(answer.body).hexdigest()
    if found != layer.sha256:
        raise wrong_hash(layer.media_type, found, layer.sha256)
    return answer.body


async def _ask(
    url: str,
    repository: str,
    registry_url: str,
    session: aiohttp.ClientSession,
    headers: Headers,
    login: Login | None,
    limits: FetchLimits,
) -> tuple[Answer, Headers]:
    """The answer, and the headers it was given for; a challenge is met once."""
    accept: Headers = (("Accept", ACCEPT),)
    answer = await read_answer(session, url, (*accept, *headers), limits, max_bytes=MAX_MANIFEST_BYTES)
    if answer.status == 401 and not headers:
        headers = await _meet_challenge(answer, repository, registry_url, session, login, limits)
        answer = await read_answer(session, url, (*accept, *headers), limits, max_bytes=MAX_MANIFEST_BYTES)
    check_success(answer)
    return answer, headers


async def _meet_challenge(
    answer: Answer,
    repository: str,
    registry_url: str,
    session: aiohttp.ClientSession,
    login: Login | None,
    limits: FetchLimits,
) -> Headers:
    """What the registry wants to see, from where it sends us."""
    shown = login.headers() if login else ()
    header = answer.headers.get("www-authenticate", "")
    challenge = parse_challenge(header, registry_url, f"repository:{repository}:pull")
    if challenge is None:
        return shown
    given = await read_answer(session, challenge.token_url(), shown, limits, max_bytes=MAX_TOKEN_BYTES)
    check_success(given)
    value = given.json()
    token = (value.get("token") or value.get("access_token")) if isinstance(value, dict) else None
    if not isinstance(token, str) or not token.isprintable() or not token:
        message = f"The registry of {repository} gives no token. Log in there, or check the reference."
        raise Unauthenticated(message, code="source_unauthenticated")
    return bearer(Secret(token))


def _checked_json(answer: Answer, reference: str) -> Any:
    """The decoded manifest, which has the digest that it was asked for by, if it was."""
    if reference.startswith("sha256:"):
        found = hashlib.sha256(answer.body).hexdigest()
        if found != reference.removeprefix("sha256:"):
            raise wrong_hash("manifest", found, reference.removeprefix("sha256:"))
    return answer.json()


def _layer_name(name: str, number: int, layer: Layer) -> str:
    numbered = f"{name}__{number}"
    if not layer.title:
        return f"{numbered}.tar" if layer.role == "archive" else numbered
    return safe_name(layer.title, f"{numbered}/{layer.title}")
