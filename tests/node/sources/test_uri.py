"""References: every form that is known, and what is wrong with the others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.index import PypiMember
from localai.node.sources.uri import (
    Endpoints,
    GalleryName,
    GitHubFile,
    HttpsUrl,
    HuggingFaceFile,
    HuggingFaceRepo,
    LocalFile,
    OciImage,
    OllamaModel,
    Reference,
    parse_reference,
    resolve_url,
)

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://o/r/m.gguf", HuggingFaceFile("o/r", "m.gguf")),
        ("huggingface://o/r/a/m.gguf", HuggingFaceFile("o/r", "a/m.gguf")),
        ("HF://o/r/a/m.gguf@v1.0", HuggingFaceFile("o/r", "a/m.gguf", "v1.0")),
        ("hf://o/r/m.gguf@refs/pr/3", HuggingFaceFile("o/r", "m.gguf", "refs/pr/3")),
        ("hf://o/r@v1/a/m.gguf", HuggingFaceFile("o/r", "a/m.gguf", "v1")),
        ("hf://o/r@refs/pr/3/m.gguf", HuggingFaceFile("o/r", "m.gguf", "refs/pr/3")),
        ("hf://o/r@refs%2Fpr%2F3/m.gguf", HuggingFaceFile("o/r", "m.gguf", "refs/pr/3")),
        ("hf://o/r@refs/convert/gguf", HuggingFaceRepo("o/r", "refs/convert/gguf")),
        ("hf.co/o/r:Q4_K_M", HuggingFaceRepo("o/r", quantisation="Q4_K_M")),
        ("hf.co/o/r:Q4_K_M@dev", HuggingFaceRepo("o/r", "dev", "Q4_K_M")),
        ("hf://o/r/", HuggingFaceRepo("o/r")),
        ("o/r", HuggingFaceRepo("o/r")),
        (" o/r@main \n", HuggingFaceRepo("o/r")),
        ("https://huggingface.co/o/r", HuggingFaceRepo("o/r")),
        ("https://HuggingFace.co/o/r/", HuggingFaceRepo("o/r")),
        ("https://hf.co/o/r/tree/dev", HuggingFaceRepo("o/r", "dev")),
        ("https://huggingface.co/o/r/resolve/main/a/m.gguf?download=true", HuggingFaceFile("o/r", "a/m.gguf")),
        ("https://huggingface.co/o/r/blob/refs%2Fpr%2F1/a%20b.gguf", HuggingFaceFile("o/r", "a b.gguf", "refs/pr/1")),
        ("https://huggingface.co/o/r/raw/refs/pr/1/x.json", HuggingFaceFile("o/r", "x.json", "refs/pr/1")),
        ("https://huggingface.co/datasets/o/r", HttpsUrl("https://huggingface.co/datasets/o/r")),
        ("https://huggingface.co/pricing", HttpsUrl("https://huggingface.co/pricing")),
        ("https://huggingface.co", HttpsUrl("https://huggingface.co")),
        ("ollama://llama3.2", OllamaModel("llama3.2")),
        ("ollama://user/m:1b", OllamaModel("user/m", "1b")),
        ("oci://quay.io/o/m:v1", OciImage("quay.io", "o/m", "v1")),
        ("oci://ai/smollm2", OciImage("docker.io", "ai/smollm2")),
        ("oci://smollm2", OciImage("docker.io", "library/smollm2")),
        ("oci://localhost/m", OciImage("localhost", "m")),
        ("oci://host:5000/m:v2", OciImage("host:5000", "m", "v2")),
        ("quay.io/o/m", OciImage("quay.io", "o/m")),
        ("ghcr.io/o/m:t", OciImage("ghcr.io", "o/m", "t")),
        (f"docker.io/m:t@{DIGEST}", OciImage("docker.io", "library/m", DIGEST)),
        ("github:o/r/a/m.yaml", GitHubFile("o", "r", "a/m.yaml")),
        ("github://o/r/m.yaml@feature/x", GitHubFile("o", "r", "m.yaml", "feature/x")),
        ("https://github.com/o/r/blob/main/a%20b.yaml", GitHubFile("o", "r", "a b.yaml")),
        (
            "https://github.com/o/r/releases/download/v1/m.gguf",
            HttpsUrl("https://github.com/o/r/releases/download/v1/m.gguf"),
        ),
        ("https://example.com/m.gguf?a=%2B#x", HttpsUrl("https://example.com/m.gguf?a=%2B#x")),
        ("https://example.com/größe.gguf", HttpsUrl("https://example.com/gr%C3%B6%C3%9Fe.gguf")),
        ("file:///a/b%20c.gguf", LocalFile(Path("/a/b c.gguf"))),
        ("file://localhost//a/b", LocalFile(Path("/a/b"))),
        ("/a/my model.gguf", LocalFile(Path("/a/my model.gguf"))),
        ("~/m", LocalFile(Path("~/m"))),
        ("./m", LocalFile(Path("m"))),
        ("models/m.gguf", LocalFile(Path("models/m.gguf"))),
        ("m.YAML", LocalFile(Path("m.YAML"))),
        ("pypi:a==1/b/c", PypiMember("a", "1", "b/c")),
        ("smollm2-135m-instruct", GalleryName("", "smollm2-135m-instruct")),
        ("localai@llama3.2-1b:q4_k_m", GalleryName("localai", "llama3.2-1b:q4_k_m")),
    ],
)
def test_what_is_known(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("x" * 5000, "has more than 4096 characters"),
        ("hf://o/r/a\x00b", "cannot be printed"),
        ("hf://gpt2", "the owner and the name of a repository"),
        ("hf://o/-r/m", "the owner and the name of a repository"),
        ("hf://o/r/m.gguf@", "the impossible revision ''"),
        ("hf://o/r/m.gguf@a/../b", "the impossible revision"),
        ("hf://o/r/m.gguf@a//b", "the impossible revision"),
        ("hf://o/r/m.gguf@a/", "the impossible revision"),
        ("hf://o/r/../m.gguf", "the impossible path '../m.gguf'"),
        ("hf://o/r/a//m.gguf", "the impossible path"),
        ("hf://o/r/a\\m.gguf", "the impossible path"),
        ("https://huggingface.co/o/r/resolve/main/a%00b", "the impossible path"),
        ("hf://o/r:Q4/m.gguf", "no quantisation of a repository follows"),
        ("hf://o/r:", "no quantisation of a repository follows"),
        ("https://huggingface.co/o/r/discussions/3", "neither a repository nor a file"),
        ("https://huggingface.co/o/r/tree/main/sub", "neither a repository nor a file"),
        ("https://huggingface.co/o/r/resolve/main", "the impossible path ''"),
        ("https://huggingface.co/-/r", "the owner and the name of a repository"),
        ("ollama://", "no name of a model"),
        ("ollama://a/b/c", "no name of a model"),
        ("ollama://a:b:c", "the impossible tag 'b:c'"),
        ("oci://quay.io/", "no registry and name of an image"),
        ("oci://quay.io/UPPER", "no registry and name of an image"),
        ("oci://-.x/m", "no registry and name of an image"),
        ("oci://m:-", "the impossible tag"),
        ("oci://m@sha256:1", "no digest follows"),
        ("github:o/r", "the impossible path ''"),
        ("github:o", "the owner and the name of a repository"),
        ("github:o/r/m@..", "the impossible revision"),
        ("http://example.com/m.gguf", "begins with http://, where anybody on the way can change the file"),
        ("https://", "is not a web address"),
        ("https://a b/c", "is not a web address"),
        ("https://example.com:99999/c", "is not a web address"),
        ("https://[::1/c", "is not a web address"),
        ("file://", "names no file"),
        ("file:///a/", "names no file"),
        ("/a/", "names no file"),
        ("ftp://a/b", "begins with ftp://, which is no scheme known here"),
        ("two words", "neither a name of a gallery nor a reference"),
        ("o/r/m", "does not say where the file is"),
    ],
)
def test_what_is_wrong_is_said_with_an_example(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_reference(text)
    assert problem in caught.value.message
    assert "Give one such as " in caught.value.message
    assert caught.value.code == "invalid_uri"


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidRequest, match="has a name or password") as caught:
        parse_reference("https://me:hunter2@example.com/m.gguf")
    assert "hunter2" not in caught.value.message


def test_plain_http_needs_a_hash() -> None:
    assert parse_reference("http://example.com/m", sha256="0" * 64) == HttpsUrl("http://example.com/m")


def test_mirrors() -> None:
    mirrors = Endpoints("http://127.0.0.1:8/hub", registries=(("docker.io", "https://mirror.example"),))
    assert parse_reference("http://127.0.0.1:8/hub/o/r/resolve/main/m.gguf", mirrors) == HuggingFaceFile(
        "o/r", "m.gguf"
    )
    assert parse_reference("https://huggingface.co/o/r", mirrors) == HuggingFaceRepo("o/r")
    assert mirrors.registry("docker.io") == "https://mirror.example"
    assert mirrors.registry("quay.io") == "https://quay.io"
    url = resolve_url(HuggingFaceFile("o/r", "a b/m.gguf", "refs/pr/1"), mirrors)
    assert url == "http://127.0.0.1:8/hub/o/r/resolve/refs%2Fpr%2F1/a%20b/m.gguf"


def test_addresses() -> None:
    assert resolve_url(HuggingFaceFile("o/r", "m.gguf")) == "https://huggingface.co/o/r/resolve/main/m.gguf"
    github = GitHubFile("o", "r", "a b.yaml", "feature/x")
    assert resolve_url(github) == "https://raw.githubusercontent.com/o/r/feature/x/a%20b.yaml"
    assert resolve_url(HttpsUrl("https://x/y")) == "https://x/y"


SCHEMES = [
    "",
    "hf://",
    "hf.co/",
    "ollama://",
    "oci://",
    "github:",
    "https://",
    "https://huggingface.co/",
    "file://",
    "pypi:",
]


@given(st.sampled_from(SCHEMES), st.text(max_size=60) | st.text("ab/:@.%-", max_size=30))
def test_any_text_is_a_reference_or_our_error(scheme: str, rest: str) -> None:
    with suppress(InvalidRequest):
        reference = parse_reference(scheme + rest)
        if isinstance(reference, HuggingFaceFile | GitHubFile | HttpsUrl):
            url = resolve_url(reference)
            assert url.isascii()
            assert not any(part in ("..", ".") for part in url.partition("/resolve/")[2].split("/"))


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,10}", fullmatch=True)


@given(NAMES, NAMES, NAMES, st.none() | NAMES)
def test_what_is_written_is_read(owner: str, name: str, path: str, revision: str | None) -> None:
    if path not in (".", "..") and ".." not in (revision or ""):
        text = f"hf://{owner}/{name}/{path}" + (f"@{revision}" if revision else "")
        assert parse_reference(text) == HuggingFaceFile(f"{owner}/{name}", path, revision or "main")
