"""Which source is asked for which form; the sources have their own tests."""

from __future__ import annotations

import json

import aiohttp
import pytest

from localai.mesh.errors import Forbidden, Unsupported
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
    [(["text.readme", "model.gguf"], ["o__m__2"]), (["text.readme", "layer.v1.tar"], None)],
)
async def test_only_the_model_of_an_image_is_taken(
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
