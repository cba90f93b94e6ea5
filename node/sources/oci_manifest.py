"""What registries say of images: manifests, indexes and challenges (pure).

Source: the OCI image and distribution specifications; a client that is not known yet gets
``WWW-Authenticate: Bearer realm="...",service="...",scope="..."`` and fetches a token from that realm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

from localai.mesh.errors import NotFound, UpstreamFailed
from localai.node.sources.plan import Role

INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MANIFEST_TYPES = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
TITLE = "org.opencontainers.image.title"
"""Annotation of a layer: its file name."""
MAX_LAYERS = 1024

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARAMETER = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"|([a-z]+)=([^\s,"]+)', re.IGNORECASE)
_ARCHIVE_ENDINGS = ("tar", "tar+gzip", "tar+zstd", ".tar.gzip", ".diff.tar")


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of an image."""

    media_type: str
    sha256: str
    size: int
    """Bytes."""
    title: str = ""
    """File name as its author gave it; may be anything."""

    @property
    def role(self) -> Role:
        """What it is for, judged by its media type, and by its title: a model file is sometimes called a tar."""
        if self.title.lower().endswith(".gguf"):
            return "projector" if "mmproj" in self.title.lower() else "model"
        if self.media_type.endswith(_ARCHIVE_ENDINGS):
            return "archive"
        if "projector" in self.media_type or "mmproj" in self.media_type:
            return "projector"
        is_model = "gguf" in self.media_type or ".model" in self.media_type
        return "model" if is_model else "other"


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where a token is to be had, and for what."""

    realm: str
    service: str
    scope: str

    def token_url(self) -> str:
        """The address to ask for the token."""
        parts = urlsplit(self.realm)
        asked = urlencode([(key, value) for key, value in (("service", self.service), ("scope", self.scope)) if value])
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(filter(None, (parts.query, asked))), ""))


def parse_challenge(header: str, registry_url: str, scope: str) -> Challenge | None:
    """The challenge in ``WWW-Authenticate``; ``scope`` is for registries that name none. None if it is no Bearer one.

    Raises:
        UpstreamFailed: it would have us ask over plain http where the registry is not, or at no address.
    """
    kind, _, rest = header.strip().partition(" ")
    if kind.lower() != "bearer":
        return None
    said = {(match[1] or match[3]).lower(): match[2] or match[4] or "" for match in _PARAMETER.finditer(rest)}
    realm = said.get("realm", "")
    scheme = realm.partition("://")[0].lower()
    if scheme != "https" and not (scheme == "http" and registry_url.startswith("http://")):
        raise _unusable(registry_url, f"names {realm[:200]!r} as the place for tokens")
    return Challenge(realm, said.get("service", ""), said.get("scope") or scope)


def parse_layers(value: Any, registry_url: str) -> tuple[Layer, ...]:
    """The layers of a manifest, in its order.

    Raises:
        UpstreamFailed: this is no manifest.
    """
    layers = value.get("layers") if isinstance(value, dict) else None
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        _no_manifest(registry_url)
    return tuple(_layer(layer, registry_url) for layer in layers)


def is_index(value: Any) -> bool:
    """True for a list of manifests, one for each platform."""
    return isinstance(value, dict) and (value.get("mediaType") in INDEX_TYPES or "manifests" in value)


def choose_manifest(value: Any, architecture: str, registry_url: str) -> str:
    """The digest of the manifest in an index that is for this architecture (as Go names it), or for none.

    Raises:
        UpstreamFailed: this is no index.
        NotFound: it has nothing for this architecture.
    """
    manifests = value.get("manifests")
    if not isinstance(manifests, list) or not all(isinstance(each, dict) for each in manifests):
        _no_manifest(registry_url)
    platforms: list[str] = []
    for each in manifests:
        platform = each.get("platform")
        platform = platform if isinstance(platform, dict) else {}
        system, its_architecture = platform.get("os", "linux"), platform.get("architecture", architecture)
        if system == "linux" and its_architecture == architecture:
            digest = each.get("digest")
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                _no_manifest(registry_url)
            return digest
        platforms.append(f"{system}/{its_architecture}"[:50])
    message = (
        f"The image has nothing for linux/{architecture}; it has {', '.join(platforms[:8]) or 'nothing'}. Use another."
    )
    raise NotFound(message, code="no_such_platform")


def _layer(value: Any, registry_url: str) -> Layer:
    if not isinstance(value, dict):
        _no_manifest(registry_url)
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if found is None or type(size) is not int or size < 0 or not isinstance(media_type, str):
        _no_manifest(registry_url)
    annotations = value.get("annotations")
    title = annotations.get(TITLE) if isinstance(annotations, dict) else None
    return Layer(media_type.partition(";")[0], found[1], size, title if isinstance(title, str) else "")


def _no_manifest(registry_url: str) -> NoReturn:
    raise _unusable(registry_url, "gave a manifest that cannot be read")


def _unusable(registry_url: str, problem: str) -> UpstreamFailed:
    host = urlsplit(registry_url).hostname
    return UpstreamFailed(f"The registry {host} {problem}. Check the reference, or use another.", code="bad_answer")
