"""Choosing files of a repository."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import NotFound, UpstreamFailed
from localai.node.sources.hub_listing import HubFile, choose_gguf, find_file, next_page, parse_tree

HASH = "ab" * 32


def _files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 1, HASH) for path in paths]


def _chosen(*paths: str, quantisations: tuple[str, ...] = ("q4_k_m",)) -> tuple[list[str], list[str]]:
    chosen = choose_gguf("o/r", _files(*paths), quantisations)
    return [file.path for file in chosen.models], [file.path for file in chosen.projectors]


def test_a_listing() -> None:
    listing = [
        {"type": "directory", "oid": "x", "size": 0, "path": "sub"},
        {"type": "file", "oid": "git", "size": 7, "path": "config.json"},
        {
            "type": "file",
            "oid": "git",
            "size": 135,
            "path": "m.gguf",
            "lfs": {"oid": HASH, "size": 9, "pointerSize": 135},
        },
        {"type": "file", "size": -1, "path": "odd", "lfs": {"oid": "sha256:" + HASH.upper(), "size": "9"}},
        {"type": "file", "path": "bad", "lfs": {"oid": "xyz"}},
    ]
    assert parse_tree(listing) == (
        HubFile("config.json", 7, None),
        HubFile("m.gguf", 9, HASH),
        HubFile("odd", None, HASH),
        HubFile("bad", None, None),
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        None,
        [1],
        [{"type": "file"}],
        *([{"type": "file", "path": path}] for path in ("../x", "/x", "a\\b", "a\nb", "")),
    ],
)
def test_what_is_no_listing(value: Any) -> None:
    with pytest.raises(UpstreamFailed, match="Check HF_ENDPOINT"):
        parse_tree(value)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("file"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "path", "lfs", "oid"]), inner),
)


@given(JSON)
def test_any_value_is_a_listing_or_our_error(value: Any) -> None:
    with suppress(UpstreamFailed):
        assert all(".." not in file.path.split("/") for file in parse_tree(value))


def test_the_next_page() -> None:
    assert next_page('<https://h/x?cursor=a>; rel="next"') == "https://h/x?cursor=a"
    assert next_page('<https://h/a>; rel="prev", </b>; rel=next') == "/b"
    assert next_page("") is None


def test_the_preferred_quantisation_in_any_case() -> None:
    assert _chosen("a-Q2_K.gguf", "a-Q4_K_M.gguf", "a-Q8_0.gguf", "README.md") == (["a-Q4_K_M.gguf"], [])
    assert _chosen("Q4_K_M/a.gguf", "Q4_K_M/b.gguf", "c.gguf") == (["Q4_K_M/a.gguf", "Q4_K_M/b.gguf"], [])
    assert _chosen("a-q2.gguf", "a-q8.gguf", quantisations=("q2", "q8"))[0] == ["a-q2.gguf", "a-q8.gguf"]


def test_else_the_last_one() -> None:
    assert _chosen("a.gguf", "b.GGUF", "c.txt") == (["b.GGUF"], [])


def test_a_model_in_parts_is_chosen_whole_and_in_order() -> None:
    parts = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    assert _chosen(parts[2], parts[0], parts[1]) == (parts, [])
    named = [part.replace("m-", "m-q4_k_m-") for part in parts]
    assert _chosen(*named, "a.gguf") == (named, [])


def test_a_part_is_missing() -> None:
    with pytest.raises(NotFound, match="has 2 of the 3 parts of"):
        _chosen("m-00001-of-00003.gguf", "m-00003-of-00003.gguf")


def test_projectors() -> None:
    model = "m-q4_k_m.gguf"
    assert _chosen("mmproj-fp16.gguf", "mmproj-q8.gguf", model) == ([model], ["mmproj-fp16.gguf"])
    assert _chosen("mmproj-bf16.gguf", "mmproj-f32.gguf", model) == ([model], ["mmproj-f32.gguf"])
    assert _chosen("sub/mmproj-model-q4_k_m.gguf", model) == ([model], ["sub/mmproj-model-q4_k_m.gguf"])


def test_nothing_to_run() -> None:
    with pytest.raises(NotFound, match=r"it has model\.safetensors\. Choose one that has, often \.\.\.-GGUF\.$"):
        _chosen("model.safetensors")
    with pytest.raises(NotFound, match="no file at all"):
        _chosen()
    with pytest.raises(NotFound):
        _chosen("mmproj.gguf")


def test_one_file() -> None:
    files = _files("a.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    assert find_file("o/r", "a.gguf", files) == (files[0],)
    assert find_file("o/r", "m-00002-of-00002.gguf", files) == (files[1], files[2])
    with pytest.raises(NotFound, match=r"has no file b\.gguf"):
        find_file("o/r", "b.gguf", files)
