"""Models in a stub of the Ollama registry."""

from __future__ import annotations

import hashlib
import json

import aiohttp
import pytest

from localai.mesh.errors import NotFound, Unsupported, UpstreamFailed
from localai.node.sources.ollama import plan_ollama
from localai.node.sources.ollama_settings import OllamaTexts
from localai.node.sources.testing import StubServer, answer
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import Endpoints, OllamaModel

MODEL = ("model", b"GGUF...")


def _serve(server: StubServer, repository: str, tag: str, *layers: tuple[str, bytes]) -> Endpoints:
    described = []
    for kind, data in layers:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        described.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)})
        server.route(f"/v2/{repository}/blobs/{digest}", answer(200, data))
    server.route(f"/v2/{repository}/manifests/{tag}", answer(200, json.dumps({"layers": described})))
    return Endpoints(ollama=server.url)


async def test_a_model_and_its_texts(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    layers = (MODEL, ("template", b"{{ .Prompt }}"), ("system", b"Be kind."), ("params", b'{"stop":["x"]}'))
    licences = (("license", b"MIT"), ("license", b"Apache"), ("projector", b"GGUF clip"))
    endpoints = _serve(server, "library/gemma", "2b", *layers, *licences)
    plan = await plan_ollama(OllamaModel("gemma", "2b"), session, endpoints=endpoints, limits=limits)
    model, projector = plan.files
    assert (model.filename, model.size, model.role) == ("gemma__2b", 7, "model")
    assert model.sha256 == hashlib.sha256(b"GGUF...").hexdigest()
    assert model.url == f"{server.url}/v2/library/gemma/blobs/sha256:{model.sha256}"
    assert (projector.filename, projector.role) == ("gemma__2b__mmproj", "projector")
    assert plan.texts == OllamaTexts("{{ .Prompt }}", "Be kind.", '{"stop":["x"]}', "MIT\n\nApache")


async def test_a_model_of_a_user(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    endpoints = _serve(server, "me/m", "latest", MODEL)
    plan = await plan_ollama(OllamaModel("me/m"), session, endpoints=endpoints, limits=limits)
    assert [file.filename for file in plan.files] == ["me__m"]
    assert plan.texts == OllamaTexts()


async def test_models_that_cannot_be_run(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    for layers, kind in (
        ([("tensor", b"x")], Unsupported),
        ([MODEL, ("model", b"y")], Unsupported),
        ([("system", b"x")], NotFound),
    ):
        endpoints = _serve(server, "library/m", "latest", *layers)
        with pytest.raises(kind):
            await plan_ollama(OllamaModel("m"), session, endpoints=endpoints, limits=limits)


async def test_texts_are_checked(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    endpoints = _serve(server, "library/m", "latest", MODEL, ("system", b"x"))
    server.route(f"/v2/library/m/blobs/sha256:{hashlib.sha256(b'x').hexdigest()}", answer(200, "y"))
    with pytest.raises(UpstreamFailed, match=r"'application/vnd\.ollama\.image\.system' has the SHA-256"):
        await plan_ollama(OllamaModel("m"), session, endpoints=endpoints, limits=limits)
