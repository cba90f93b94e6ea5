"""Ollama references -> files to fetch, and the texts that belong to them (shell).

The registry is one for OCI. A model's layers are told apart by their media types, ``application/vnd.ollama.image.*``.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from localai.mesh.errors import NotFound, Unsupported
from localai.node.sources.local_names import local_name
from localai.node.sources.oci import Manifest, read_blob, read_manifest
from localai.node.sources.oci_manifest import Layer
from localai.node.sources.ollama_settings import OllamaTexts
from localai.node.sources.plan import DownloadPlan, PlannedFile
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits
from localai.node.sources.uri import PUBLIC_ENDPOINTS, Endpoints, OllamaModel

MAX_TEXT_BYTES = 1 << 20
_PREFIX = "application/vnd.ollama.image."


@dataclass(frozen=True, slots=True)
class OllamaPlan:
    """An Ollama model: files still to fetch, and texts that are here."""

    files: DownloadPlan
    texts: OllamaTexts


async def plan_ollama(
    reference: OllamaModel,
    session: aiohttp.ClientSession,
    *,
    endpoints: Endpoints = PUBLIC_ENDPOINTS,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> OllamaPlan:
    """The weights, and the projector if the model reads pictures, called as the reference.

    Raises:
        NotFound: there is no such model, or it has no weights.
        Unsupported: its weights are not one GGUF file.
        LocalAIError: the registry cannot be reached, or its answers cannot be used.
    """
    repository = reference.name if "/" in reference.name else f"library/{reference.name}"
    manifest = await read_manifest(endpoints.ollama, repository, reference.tag, session, limits=limits)
    weights = _layers(manifest, "model")
    if len(weights) != 1:
        raise _no_weights(reference, manifest)
    name = local_name(reference)
    files = [_planned(manifest, weights[0], name)]
    files += [
        PlannedFile(
            f"{name}__mmproj", manifest.blob_url(layer), layer.sha256, layer.size, manifest.headers, "projector"
        )
        for layer in _layers(manifest, "projector")[:1]
    ]
    texts = {kind: await _text(manifest, kind, session, limits) for kind in ("template", "system", "params", "license")}
    return OllamaPlan(tuple(files), OllamaTexts(**texts))


def _layers(manifest: Manifest, kind: str) -> list[Layer]:
    return [layer for layer in manifest.layers if layer.media_type == _PREFIX + kind]


def _planned(manifest: Manifest, layer: Layer, name: str) -> PlannedFile:
    return PlannedFile(name, manifest.blob_url(layer), layer.sha256, layer.size, manifest.headers)


async def _text(manifest: Manifest, kind: str, session: aiohttp.ClientSession, limits: FetchLimits) -> str:
    """All layers of a kind, one after the other; a model may have several licences."""
    parts = [
        await read_blob(manifest, layer, session, max_bytes=MAX_TEXT_BYTES, limits=limits)
        for layer in _layers(manifest, kind)
    ]
    return "\n\n".join(part.decode("utf-8", "replace") for part in parts)


def _no_weights(reference: OllamaModel, manifest: Manifest) -> NotFound | Unsupported:
    shown = f"{reference.name}:{reference.tag}"
    if _layers(manifest, "tensor") or len(_layers(manifest, "model")) > 1:
        message = f"The weights of {shown} are not in one GGUF file, which is all that can be run. Use another tag."
        return Unsupported(message, code="unsupported_model")
    return NotFound(f"The model {shown} has no weights to fetch; it may run in the cloud only. Use another tag.")
