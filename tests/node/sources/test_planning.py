"""Which source is asked for which form; the sources have their own tests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import aiohttp
import pytest

from localai.mesh.errors import Forbidden, NotFound, Unsupported
from localai.mesh.secrets import Secret
from localai.node.sources.plan import PlannedFile
from localai.node.sources.planning import Remote, SourceRules, plan_reference, source_rules
from localai.node.sources.testing import StubServer, answer
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import PUBLIC_ENDPOINTS, Endpoints, GitHubFile, HttpsUrl, HuggingFaceRepo, OciImage

HASH = "ab" * 32


def _rules(server: StubServer, limits: FetchLimits, *, scan: bool = True) -> SourceRules:
    return SourceRules(Endpoints(server.url, server.url, server.url, (("ghcr.io", server.url),)), None, scan, limits)


def test_rules_of_the_environment() -> None:
    assert source_rules({}, scan=False) == SourceRules(PUBLIC_ENDPOINTS, None, scan=False)
    rules = source_rules({"HF_ENDPOINT": "https://mirror/", "HF_TOKEN": "t"})
    assert rules == SourceRules(Endpoints("https://mirror"), Secret("t"))
    assert rules.environment["HF_TOKEN"] == "t"
    assert "environment" not in repr(rules)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"HF_ENDPOINT": "https://c", "HF": "b", "HF_MIRROR": "a.example/"}, "https://a.example"),
        ({"HF_ENDPOINT": "https://c", "HF": "b:8080", "HF_MIRROR": " "}, "https://b:8080"),
        ({"HF_ENDPOINT": "http://c/sub/"}, "http://c/sub"),
    ],
)
def test_mirrors_of_the_hub_in_localais_order(environment: dict[str, str], address: str) -> None:
    assert source_rules(environment).endpoints.hugging_face == address


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        (HttpsUrl("https://x/m.gguf"), PlannedFile("m.gguf", "https://x/m.gguf")),
        (
            GitHubFile("o", "r", "m.gguf"),
            PlannedFile("m.gguf", "https://raw.githubusercontent.com/o/r/main/m.gguf", role="other"),
        ),
    ],
)
async def test_addresses_need_no_question(reference: Remote, file: PlannedFile, session: aiohttp.ClientSession) -> None:
    assert await plan_reference(reference, session, SourceRules()) == (file,)


async def test_the_scan_is_asked_unless_it_is_off(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    tree = [{"type": "file", "path": "m.gguf", "size": 9, "lfs": {"oid": HASH}}]
    server.route("/api/models/o/r/tree/main", answer(200, json.dumps(tree)))
    for scan in (True, False):
        (file,) = await plan_reference(HuggingFaceRepo("o/r"), session, _rules(server, limits, scan=scan))
        assert file.sha256 == HASH
    assert [seen.path for seen in server.seen if seen.path.endswith("/scan")] == ["/api/models/o/r/scan"]


async def test_pickles_are_refused_by_name(session: aiohttp.ClientSession) -> None:
    with pytest.raises(Forbidden, match="Python pickle"):
        await plan_reference(HttpsUrl("https://x/model.pt"), session, SourceRules())


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["text.readme", "model.gguf"], ["o__m__2"]),
        (["layer.v1.tar", "model.gguf", "ai.mmproj"], ["o__m__2", "o__m__3"]),
        (["text.readme", "layer.v1.tar", "layer.v1.tar+gzip"], ["o__m__2.tar", "o__m__3.tar"]),
        (["text.readme"], None),
    ],
)
async def test_of_an_image_the_model_is_taken_or_else_its_archives(
    kinds: list[str],
    names: list[str] | None,
    server: StubServer,
    session: aiohttp.ClientSession,
    limits: FetchLimits,
) -> None:
    layers = [{"mediaType": f"application/{kind}", "digest": f"sha256:{HASH}", "size": 9} for kind in kinds]
    server.route("/v2/o/m/manifests/latest", answer(200, json.dumps({"schemaVersion": 2, "layers": layers})))
    image = OciImage("ghcr.io", "o/m")
    if names is None:
        with pytest.raises(Unsupported, match="no layer that is a model file"):
            await plan_reference(image, session, _rules(server, limits))
    else:
        plan = await plan_reference(image, session, _rules(server, limits))
        assert [file.filename.removeprefix("ghcr.io__") for file in plan] == names


async def test_an_image_for_several_machines(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    layer = {"mediaType": "application/gguf", "digest": f"sha256:{HASH}", "size": 9}
    manifests: list[dict[str, object]] = []
    for architecture in ("arm64", "amd64"):
        body = json.dumps({"layers": [{**layer, "annotations": {"for": architecture}, "size": len(manifests)}]})
        digest = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
        server.route(f"/v2/o/m/manifests/{digest}", answer(200, body))
        manifests.append({"digest": digest, "platform": {"os": "linux", "architecture": architecture}})
    server.route("/v2/o/m/manifests/latest", answer(200, json.dumps({"manifests": manifests})))
    for size, architecture in enumerate(("arm64", "amd64")):
        rules = replace(_rules(server, limits), architecture=architecture)
        (file,) = await plan_reference(OciImage("ghcr.io", "o/m"), session, rules)
        assert file.size == size
    with pytest.raises(NotFound, match="nothing for linux/riscv64"):
        await plan_reference(OciImage("ghcr.io", "o/m"), session, replace(rules, architecture="riscv64"))
