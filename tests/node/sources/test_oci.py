"""Images in a stub registry."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from localai.mesh.errors import NotFound, Unauthenticated, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.oci import Login, plan_oci, read_blob, read_manifest
from localai.node.sources.oci_manifest import Layer
from localai.node.sources.testing import Handler, StubServer, answer
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import Endpoints, OciImage

HASH = "ab" * 32
GGUF = {"mediaType": "application/vnd.docker.ai.gguf.v3", "digest": f"sha256:{HASH}", "size": 9}
LICENSE = {**GGUF, "mediaType": "application/vnd.docker.ai.license"}
TAR = {**GGUF, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
MANIFEST = "/v2/o/m/manifests/v1"
IMAGE = OciImage("r", "o/m", "v1")
LOGIN = Login("me", Secret("hunter2"))


def _manifest(*layers: dict[str, Any]) -> str:
    return json.dumps({"schemaVersion": 2, "layers": layers})


def _guarded(body: str, realm: str) -> Handler:
    """Wants the token ``t``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == "Bearer t":
            return web.Response(text=body)
        challenge = f'Bearer realm="{realm}",service="r",scope="repository:o/m:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    return handler


@pytest.fixture
def registry(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> dict[str, Any]:
    """Arguments for everything that asks the stub."""
    return {"session": session, "limits": limits, "endpoints": Endpoints(registries=(("r", server.url),))}


async def test_an_open_registry(server: StubServer, registry: dict[str, Any]) -> None:
    server.route(MANIFEST, answer(200, _manifest(GGUF)))
    (file,) = await plan_oci(IMAGE, **registry)
    assert (file.filename, file.sha256, file.size, file.role) == ("r__o__m__v1", HASH, 9, "model")
    assert (file.url, file.headers) == (f"{server.url}/v2/o/m/blobs/sha256:{HASH}", ())
    assert "application/vnd.oci.image.manifest.v1+json" in server.seen[0].headers["accept"]


@pytest.mark.parametrize("login", [None, LOGIN])
async def test_a_token_is_fetched_where_the_registry_says(
    server: StubServer, other_server: StubServer, registry: dict[str, Any], login: Login | None
) -> None:
    realm = other_server.route("/token", answer(200, '{"access_token": "t"}'))
    server.route(MANIFEST, _guarded(_manifest(GGUF), realm))
    (file,) = await plan_oci(IMAGE, login=login, **registry)
    assert file.headers == (("Authorization", Secret("Bearer t")),)
    (asked,) = other_server.seen
    assert asked.path == "/token?service=r&scope=repository%3Ao%2Fm%3Apull"
    assert asked.headers.get("authorization") == ("Basic bWU6aHVudGVyMg==" if login else None)
    assert "hunter2" not in repr(login)


async def test_a_registry_that_takes_passwords_itself(server: StubServer, registry: dict[str, Any]) -> None:
    server.route(MANIFEST, answer(401, WWW_Authenticate="Basic realm=x"), answer(200, _manifest(GGUF)))
    (file,) = await plan_oci(IMAGE, login=LOGIN, **registry)
    assert file.headers == LOGIN.headers()
    assert server.seen[1].headers["authorization"] == "Basic bWU6aHVudGVyMg=="


@pytest.mark.parametrize("given", ["{}", "[]", '{"token": ""}', '{"token": "a\\nb"}', '{"token": 1}'])
async def test_no_token_is_given(server: StubServer, registry: dict[str, Any], given: str) -> None:
    realm = server.route("/token", answer(200, given))
    server.route(MANIFEST, _guarded("", realm))
    with pytest.raises(Unauthenticated, match="gives no token"):
        await plan_oci(IMAGE, **registry)


async def test_a_token_that_does_not_help(server: StubServer, registry: dict[str, Any]) -> None:
    realm = server.route("/token", answer(200, '{"token": "other"}'))
    server.route(MANIFEST, _guarded("", realm))
    with pytest.raises(Unauthenticated):
        await plan_oci(IMAGE, **registry)
    assert len(server.seen) == 3


async def test_several_layers(server: StubServer, registry: dict[str, Any]) -> None:
    titled = {**GGUF, "annotations": {"org.opencontainers.image.title": "../../w.gguf"}}
    server.route(MANIFEST, answer(200, _manifest(LICENSE, TAR, titled)))
    plan = await plan_oci(IMAGE, **registry)
    assert [(file.filename, file.role) for file in plan] == [
        ("w.gguf", "model"),
        ("r__o__m__v1__1", "other"),
        ("r__o__m__v1__2.tar", "archive"),
    ]
    server.route(MANIFEST, answer(200, _manifest(titled, titled)))
    with pytest.raises(UpstreamFailed, match="two layers with the same file name"):
        await plan_oci(IMAGE, **registry)


async def test_an_index_leads_to_the_manifest_for_this_machine(server: StubServer, registry: dict[str, Any]) -> None:
    body = _manifest(GGUF)
    digest = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
    entry = {"digest": digest, "platform": {"os": "linux", "architecture": "arm64"}}
    server.route(MANIFEST, answer(200, json.dumps({"manifests": [entry]})))
    by_digest = f"/v2/o/m/manifests/{digest}"
    server.route(by_digest, answer(200, body))
    assert len(await plan_oci(IMAGE, architecture="arm64", **registry)) == 1
    with pytest.raises(NotFound, match="nothing for linux/amd64"):
        await plan_oci(IMAGE, **registry)
    server.route(by_digest, answer(200, body + " "))
    with pytest.raises(UpstreamFailed, match="The file 'manifest' has the SHA-256"):
        await plan_oci(IMAGE, architecture="arm64", **registry)


async def test_an_index_of_indexes(server: StubServer, registry: dict[str, Any]) -> None:
    inner = json.dumps({"manifests": [{"digest": f"sha256:{HASH}"}]})
    digest = f"sha256:{hashlib.sha256(inner.encode()).hexdigest()}"
    server.route(MANIFEST, answer(200, json.dumps({"manifests": [{"digest": digest}]})))
    server.route(f"/v2/o/m/manifests/{digest}", answer(200, inner))
    with pytest.raises(UpstreamFailed, match="a list of lists"):
        await plan_oci(IMAGE, **registry)


async def test_small_layers(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    server.route(MANIFEST, answer(200, _manifest(GGUF)))
    manifest = await read_manifest(server.url, "o/m", "v1", session, limits=limits)
    good = Layer("text", hashlib.sha256(b"abc").hexdigest(), 3)
    for layer in (good, Layer("text", HASH, 3)):
        server.route(f"/v2/o/m/blobs/sha256:{layer.sha256}", answer(200, "abc"))
    assert await read_blob(manifest, good, session, max_bytes=10, limits=limits) == b"abc"
    with pytest.raises(UpstreamFailed, match="has the SHA-256"):
        await read_blob(manifest, Layer("text", HASH, 3), session, max_bytes=10, limits=limits)
    with pytest.raises(UpstreamFailed, match="more than 2 bytes"):
        await read_blob(manifest, good, session, max_bytes=2, limits=limits)
    with pytest.raises(NotFound):
        await read_blob(manifest, Layer("text", "cd" * 32, 3), session, max_bytes=10, limits=limits)
