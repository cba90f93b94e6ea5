"""Repositories on a stub hub."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from localai.mesh.errors import NotFound, Unauthenticated, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.huggingface import hub_scan, list_files, plan_file, plan_repo
from localai.node.sources.testing import StubServer, answer
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import Endpoints, HuggingFaceFile, HuggingFaceRepo

HASH = "ab" * 32
TREE = "/api/models/o/r-GGUF/tree/main"
REPO = HuggingFaceRepo("o/r-GGUF")


def _listed(*paths: str) -> str:
    return json.dumps([{"type": "file", "path": path, "size": 9, "lfs": {"oid": HASH, "size": 9}} for path in paths])


@pytest.fixture
def hub(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> dict[str, Any]:
    """Arguments for everything that asks the stub."""
    return {"session": session, "limits": limits, "endpoints": Endpoints(hugging_face=server.url)}


async def test_a_repository(server: StubServer, hub: dict[str, Any]) -> None:
    server.route(f"{TREE}?recursive=true", answer(200, _listed("README.md", "mmproj-f16.gguf", "r.Q4_K_M.gguf")))
    model, projector = await plan_repo(REPO, token=Secret("t"), **hub)
    assert (model.filename, model.sha256, model.size) == ("llama-cpp/models/r-GGUF/r.Q4_K_M.gguf", HASH, 9)
    assert model.url == f"{server.url}/o/r-GGUF/resolve/main/r.Q4_K_M.gguf"
    assert (projector.filename, projector.role) == ("llama-cpp/mmproj/r-GGUF/mmproj-f16.gguf", "projector")
    assert model.headers == (("Authorization", Secret("Bearer t")),)
    assert server.seen[0].headers["authorization"] == "Bearer t"


async def test_a_named_quantisation_and_revision(server: StubServer, hub: dict[str, Any]) -> None:
    tree = "/api/models/o/r-GGUF/tree/refs%2Fpr%2F1?recursive=true"
    server.route(tree, answer(200, _listed("q2_k.gguf", "q4_k_m.gguf")))
    (model,) = await plan_repo(HuggingFaceRepo("o/r-GGUF", "refs/pr/1", "Q2_K"), **hub)
    assert model.url.endswith("/resolve/refs%2Fpr%2F1/q2_k.gguf")
    with pytest.raises(NotFound, match="has no file for Q9"):
        await plan_repo(HuggingFaceRepo("o/r-GGUF", "refs/pr/1", "Q9"), **hub)


async def test_files_with_the_same_name_are_told_apart(server: StubServer, hub: dict[str, Any]) -> None:
    server.route(TREE, answer(200, _listed("a/q4_k_m.gguf", "b/q4_k_m.gguf")))
    names = [file.filename for file in await plan_repo(REPO, **hub)]
    assert names == ["llama-cpp/models/r-GGUF/a__q4_k_m.gguf", "llama-cpp/models/r-GGUF/b__q4_k_m.gguf"]


async def test_one_file_and_its_parts(server: StubServer, hub: dict[str, Any]) -> None:
    listed = _listed("s/m-00001-of-00002.gguf", "s/m-00002-of-00002.gguf", "s/x.json")
    server.route(f"{TREE}/s", answer(200, listed))
    (file,) = await plan_file(HuggingFaceFile("o/r-GGUF", "s/x.json"), **hub)
    assert (file.filename, file.sha256) == ("x.json", HASH)
    parts = await plan_file(HuggingFaceFile("o/r-GGUF", "s/m-00001-of-00002.gguf"), **hub)
    assert [part.filename for part in parts] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    with pytest.raises(NotFound):
        await plan_file(HuggingFaceFile("o/r-GGUF", "s/y.json"), **hub)


async def test_long_listings(server: StubServer, hub: dict[str, Any]) -> None:
    pages = [answer(200, _listed("a"), Link=f'<{server.url}{TREE}?cursor=2>; rel="next"'), answer(200, _listed("b"))]
    server.route(TREE, *pages)
    assert [file.path for file in await list_files(REPO, "", **hub)] == ["a", "b"]
    assert server.seen[1].path == f"{TREE}?cursor=2"


async def test_listings_that_lead_astray(server: StubServer, other_server: StubServer, hub: dict[str, Any]) -> None:
    server.route(TREE, answer(200, "[]", Link=f'<{other_server.url}/x>; rel="next"'))
    with pytest.raises(UpstreamFailed, match="goes on at another host"):
        await list_files(REPO, "", token=Secret("t"), **hub)
    assert other_server.seen == []
    server.route(TREE, answer(200, "[]", Link='<?again>; rel="next"'))
    with pytest.raises(UpstreamFailed, match="too many files"):
        await list_files(REPO, "", **hub)


async def test_a_private_repository(server: StubServer, hub: dict[str, Any]) -> None:
    server.route(TREE, answer(401))
    with pytest.raises(Unauthenticated, match="give a token"):
        await plan_repo(REPO, **hub)


async def test_the_scan(server: StubServer, hub: dict[str, Any]) -> None:
    server.route("/api/models/o/r/scan", answer(200, '{"hasUnsafeFile": true, "dangerousPickles": ["x"]}'))
    assert [finding.severity for finding in await hub_scan("o/r", **hub)] == ["refuse"]
    for other in (answer(404), answer(200, "no")):
        server.route("/api/models/o/r/scan", other)
        (finding,) = await hub_scan("o/r", **hub)
        assert (finding.severity, "could not be read" in finding.sentence) == ("note", True)
