"""The built-in gallery's entries and addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.index import BUILT_IN_GALLERY, DEFAULT_MODEL, PypiMember, find_entry, parse_pypi_uri
from localai.node.model_config import parse_definitions, render_definition


def test_an_address_has_three_parts() -> None:
    member = parse_pypi_uri("pypi:some-pkg==1.0.post2/folder/model file.gguf".replace(" ", "_"))
    assert member == PypiMember("some-pkg", "1.0.post2", "folder/model_file.gguf")
    assert member.requirement == "some-pkg==1.0.post2"


@pytest.mark.parametrize(
    "uri",
    ["", "pypi:a/b", "pypi:a==1", "pypi:a==1/", "pypi:a==1/../b", "pypi:a==1/x//b", "pypi:-r==1/b", "pypi:a==1/b c",
     "pypi:a==1 --hash/b", "https://a==1/b"],
)  # fmt: skip
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest, match="is not of the form pypi:<package>"):
        parse_pypi_uri(uri)


@given(st.text(max_size=40).map("pypi:".__add__))
def test_any_address_is_parsed_or_refused(uri: str) -> None:
    try:
        member = parse_pypi_uri(uri)
    except InvalidRequest:
        return
    assert ".." not in member.member.split("/")
    assert not re.search(r"\s", member.requirement)


def test_every_entry_is_whole() -> None:
    assert DEFAULT_MODEL in BUILT_IN_GALLERY
    for entry in BUILT_IN_GALLERY:
        assert entry.name == entry.name.lower()
        assert entry.licence
        assert entry.definition.model_file == entry.files[0].filename
        assert entry.download_bytes >= sum(file.archive_bytes for file in entry.files) > 0
        for file in entry.files:
            assert parse_pypi_uri(file.uri)
            assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in (file.sha256, file.archive_sha256))
        text = render_definition(entry.definition, uri=entry.files[0].uri)
        assert parse_definitions(text, f"{entry.name}.yaml").models == (entry.definition,)


def test_an_entry_is_found_in_any_case() -> None:
    assert find_entry("SmolLM2-135M-Instruct") is DEFAULT_MODEL
    with pytest.raises(InvalidRequest, match=r"has no model 'x'\. It has: smollm2-135m-instruct\."):
        find_entry("x")
