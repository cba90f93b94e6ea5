"""What registries say."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import NotFound, UpstreamFailed
from localai.node.sources.oci_manifest import (
    TITLE,
    Challenge,
    Layer,
    choose_manifest,
    is_index,
    parse_challenge,
    parse_layers,
)

HASH = "ab" * 32
DIGEST = f"sha256:{HASH}"
HOST = "https://r.example"
LAYER = {"mediaType": "application/vnd.docker.ai.gguf.v3", "digest": DIGEST, "size": 7}


def test_a_challenge() -> None:
    header = 'Bearer realm="https://auth.example/token?a=b",service="r.example",scope="repository:o/m:pull"'
    challenge = parse_challenge(header, HOST, "other")
    assert challenge == Challenge("https://auth.example/token?a=b", "r.example", "repository:o/m:pull")
    assert challenge.token_url() == ("https://auth.example/token?a=b&service=r.example&scope=repository%3Ao%2Fm%3Apull")


def test_a_short_challenge() -> None:
    challenge = parse_challenge(" bearer Realm=https://a/t ", HOST, "repository:o/m:pull")
    assert challenge == Challenge("https://a/t", "", "repository:o/m:pull")
    assert challenge.token_url() == "https://a/t?scope=repository%3Ao%2Fm%3Apull"
    assert Challenge("https://a/t", "", "").token_url() == "https://a/t"


@pytest.mark.parametrize("header", ["", "Basic realm=x", "Negotiate"])
def test_other_challenges(header: str) -> None:
    assert parse_challenge(header, HOST, "s") is None


@pytest.mark.parametrize("realm", ["", "http://a/t", "file:///x", "/t"])
def test_tokens_come_over_https(realm: str) -> None:
    with pytest.raises(UpstreamFailed, match=r"^The registry r\.example names "):
        parse_challenge(f'Bearer realm="{realm}"', HOST, "s")


def test_a_registry_without_https_may_have_such_a_realm() -> None:
    assert parse_challenge('Bearer realm="http://a/t"', "http://127.0.0.1:5000", "s") is not None


def test_layers() -> None:
    titled = {**LAYER, "mediaType": "a/b; c=d", "annotations": {TITLE: "m.gguf"}}
    odd = {**LAYER, "annotations": {TITLE: 1}}
    assert parse_layers({"layers": [LAYER, titled, odd]}, HOST) == (
        Layer("application/vnd.docker.ai.gguf.v3", HASH, 7),
        Layer("a/b", HASH, 7, "m.gguf"),
        Layer("application/vnd.docker.ai.gguf.v3", HASH, 7),
    )


@pytest.mark.parametrize(
    ("media_type", "title", "role"),
    [
        ("application/vnd.docker.ai.gguf.v3", "", "model"),
        ("application/vnd.ollama.image.model", "", "model"),
        ("application/octet-stream", "M.GGUF", "model"),
        ("application/vnd.ollama.image.projector", "", "projector"),
        ("application/vnd.docker.ai.mmproj", "", "projector"),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "", "archive"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "", "archive"),
        ("application/vnd.docker.ai.license", "LICENSE", "other"),
        ("application/vnd.oci.image.layer.v1.tar", "m.gguf", "model"),
        ("application/vnd.oci.image.layer.v1.tar", "mmproj-m.gguf", "projector"),
        ("application/vnd.oci.image.layer.v1.tar", "m.tar", "archive"),
    ],
)
def test_what_a_layer_is_for(media_type: str, title: str, role: str) -> None:
    assert Layer(media_type, HASH, 1, title).role == role


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"layers": []},
        {"layers": [LAYER] * 1025},
        {"layers": [1]},
        {"layers": [{**LAYER, "digest": "sha512:ab"}]},
        {"layers": [{**LAYER, "digest": 1}]},
        {"layers": [{**LAYER, "size": -1}]},
        {"layers": [{**LAYER, "size": True}]},
        {"layers": [{**LAYER, "mediaType": None}]},
    ],
)
def test_what_is_no_manifest(value: Any) -> None:
    with pytest.raises(UpstreamFailed, match=r"r\.example gave a manifest that cannot be read"):
        parse_layers(value, HOST)


def _entry(digest: str = DIGEST, **platform: str) -> dict[str, Any]:
    return {"digest": digest, "platform": platform}


def test_an_index() -> None:
    other = "sha256:" + "cd" * 32
    index = {"manifests": [_entry(os="linux", architecture="arm64"), _entry(other, os="linux", architecture="amd64")]}
    assert is_index(index)
    assert is_index({"mediaType": "application/vnd.oci.image.index.v1+json"})
    assert not is_index({"layers": []})
    assert not is_index([])
    assert choose_manifest(index, "amd64", HOST) == other
    assert choose_manifest(index, "arm64", HOST) == DIGEST
    assert choose_manifest({"manifests": [{"digest": DIGEST}]}, "amd64", HOST) == DIGEST
    with pytest.raises(NotFound, match="nothing for linux/riscv64; it has linux/arm64, linux/amd64"):
        choose_manifest(index, "riscv64", HOST)
    with pytest.raises(NotFound, match="it has nothing"):
        choose_manifest({"manifests": []}, "amd64", HOST)


@pytest.mark.parametrize("manifests", [None, [1], [{}], [_entry("x")]])
def test_what_is_no_index(manifests: Any) -> None:
    with pytest.raises(UpstreamFailed):
        choose_manifest({"manifests": manifests}, "amd64", HOST)


@given(st.text(max_size=80))
def test_any_challenge_is_read_or_refused(text: str) -> None:
    with suppress(UpstreamFailed):
        challenge = parse_challenge("Bearer " + text, HOST, "s")
        assert challenge is not None
        assert challenge.realm.lower().startswith("https://")
