"""Names of fetched files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.gallery.index import PypiMember
from localai.node.sources.local_names import MAX_NAME_BYTES, Named, local_name, safe_name
from localai.node.sources.uri import GitHubFile, HttpsUrl, HuggingFaceFile, LocalFile, OciImage, OllamaModel


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (HuggingFaceFile("o/r", "a/m.gguf"), "m.gguf"),
        (GitHubFile("o", "r", "a/m.yaml"), "m.yaml"),
        (PypiMember("p", "1", "p/m.gguf"), "m.gguf"),
        (LocalFile(Path("/a/b/m.gguf")), "m.gguf"),
        (HttpsUrl("https://x.org/a/m%20n.gguf?b=/c#d"), "m n.gguf"),
        (HttpsUrl("https://x.org/m.gguf@main"), "m.gguf"),
        (HttpsUrl("https://x.org/"), _md5("https://x.org/")),
        (HttpsUrl("https://x.org/@v.yaml"), _md5("https://x.org/@v.yaml") + ".yaml"),
        (HttpsUrl("https://x.org/a%2F..%2F.."), _md5("https://x.org/a%2F..%2F..")),
        (HttpsUrl("https://x.org/.hidden"), _md5("https://x.org/.hidden")),
        (OllamaModel("gemma", "2b"), "gemma__2b"),
        (OllamaModel("me/gemma"), "me__gemma"),
        (OciImage("quay.io", "o/m", "v1"), "quay.io__o__m__v1"),
        (OciImage("docker.io", "ai/m", "sha256:ab"), "ai__m__sha256__ab"),
    ],
)
def test_the_name_of_a_file(reference: Named, name: str) -> None:
    assert local_name(reference) == name


def test_names_that_would_be_ours_or_too_long_are_not_used() -> None:
    for path in ("m.partial", "m.partial.json", "m.lock", "~m", " m", "a\\b", "a\nb", "x" * 201, "ü" * 101, ".."):
        assert safe_name(path, "address") == _md5("address")


@given(st.text(), st.text())
def test_no_name_leads_anywhere(path: str, address: str) -> None:
    name = safe_name(path, address.encode("utf-8", "replace").decode())
    assert name
    assert "/" not in name
    assert name not in (".", "..")
    assert len(name.encode()) <= MAX_NAME_BYTES
