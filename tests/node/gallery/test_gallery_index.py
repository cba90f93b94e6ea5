from __future__ import annotations

import json
from typing import Any

import pytest

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.gallery_index import (
    ApplyRequest,
    BaseFile,
    GallerySource,
    IndexEntry,
    build_recipe,
    check_lengths,
    parse_base_file,
    parse_galleries,
    parse_index,
    parse_requests,
    same_name,
    split_name,
)
from localai.node.gallery.recipe import RecipeFile

SOURCE = GallerySource("g", "https://x/index.yaml")


def test_the_list_of_galleries() -> None:
    text = '[{"name": "g", "url": "https://x/index.yaml", "mirrors": []}]'
    assert parse_galleries(text) == (SOURCE,)
    text = '[{"name": "g", "url": "u", "mirrors": ["a", "b", "a"]}, {"name": "h", "url": "v", "mirrors": null}]'
    assert parse_galleries(text) == (GallerySource("g", "u", ("a", "b")), GallerySource("h", "v"))
    assert parse_galleries(" ") == ()
    assert parse_galleries("[]") == ()


@pytest.mark.parametrize(
    "text",
    ["{", "3", "[3]", '[{"name": "g"}]', '[{"name": "a@b", "url": "x"}]', json.dumps([{"name": "g", "url": "u"}] * 33)],
)
def test_lists_of_galleries_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="list of galleries"):
        parse_galleries(text)


@pytest.mark.parametrize("mirrors", ["x", [3], [" "], ["x"] * 9, {}])
def test_mirrors_that_are_refused(mirrors: object) -> None:
    with pytest.raises(InvalidRequest, match="'mirrors' of gallery 'g'"):
        parse_galleries(json.dumps([{"name": "g", "url": "u", "mirrors": mirrors}]))


def test_an_index_with_anchors_as_localai_writes_them() -> None:
    text = """
- &a
  name: "a"
  url: "github:o/g/base.yaml@master"
  license: mit
  icon: https://x/i.png
  urls: [https://x]
  tags: [llm, 7]
  size: 3
  description: |
    Two
    lines.
  overrides: {flash_attention: on, temperature: 1e3}
  files: [{filename: a.gguf, uri: "huggingface://o/r/a.gguf", sha256: "AB"}]
- !!merge <<: *a
  name: b
  config_file: {backend: x}
- name: c
  config_file: "backend: y"
"""
    index = parse_index(text, SOURCE)
    first, second, third = index.entries
    assert first == IndexEntry(
        SOURCE, "a", "github:o/g/base.yaml@master", None, {"flash_attention": "on", "temperature": 1000.0},
        (RecipeFile("a.gguf", "huggingface://o/r/a.gguf", "ab"),), "Two\nlines.\n", "mit", "https://x/i.png",
        ("https://x",), ("llm", "7"), "3",
    )  # fmt: skip
    assert (second.name, second.config, second.files) == ("b", {"backend": "x"}, first.files)
    assert third.config == {"backend": "y"}
    assert index.problems == ()


def test_entries_that_cannot_be_used_are_told() -> None:
    text = "[3, {name: ''}, {name: a, overrides: 3}, {name: a, config_file: '3'}, {name: a, files: [3]}, {name: ok}]"
    index = parse_index(text, SOURCE)
    assert [entry.name for entry in index.entries] == ["ok"]
    assert len(index.problems) == 5
    with pytest.raises(InvalidRequest, match="is not a list"):
        parse_index("a: 1", SOURCE)


def test_an_index_longer_than_one_text_may_be() -> None:
    items = ["- &a\n  name: a\n  license: MIT\n  description: '" + "x" * 1000 + "'\n"]
    items += [f"- !!merge <<: *a\n  name: m{number}\n  icon: {'y' * 1000}\n" for number in range(1500)]
    index = parse_index("---\n" + "".join(items), SOURCE)
    assert [entry.name for entry in index.entries] == ["a", *(f"m{number}" for number in range(1500))]
    assert {entry.licence for entry in index.entries} == {"MIT"}
    with pytest.raises(InvalidRequest, match="larger than 16 MiB"):
        parse_index("x" * ((16 << 20) + 1), SOURCE)


def test_a_base_file() -> None:
    text = r"""
name: base
description: d
config_file: |
  context_size: 12
  template: {chat: "it\'s"}
files: [{filename: a, uri: b}]
prompt_templates: [{name: t, content: "x"}, 3]
"""
    base = parse_base_file(text, "base")
    assert base == BaseFile(
        "base", "d", {"context_size": 12, "template": {"chat": "it's"}}, (RecipeFile("a", "b"),), (("t", "x"),)
    )
    assert parse_base_file("name: base\ncontext_size: 1", "b").config == {"name": "base", "context_size": 1}
    assert parse_base_file("config_file: ''", "b") == BaseFile()
    assert parse_base_file("config_file: {a: 1}", "b").config == {"a": 1}


@pytest.mark.parametrize("text", ["3", "config_file: 3", "config_file: '[]'", "{config_file: {}, prompt_templates: 3}"])
def test_base_files_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_base_file(text, "base")


def test_broken_yaml_stays_broken() -> None:
    with pytest.raises(InvalidRequest, match="not valid YAML"):
        parse_base_file("a: [", "base")
    with pytest.raises(InvalidRequest, match="not valid YAML"):
        parse_base_file(r'''a: ["\'"''', "base")


def test_requests() -> None:
    value = [{"id": "g@m"}, {"url": "u", "name": 3, "overrides": {"a": 1}, "files": [{"filename": "f", "uri": "u"}]}]
    assert parse_requests(value, "x") == (
        ApplyRequest("g@m"),
        ApplyRequest(url="u", name="3", overrides={"a": 1}, files=(RecipeFile("f", "u"),)),
    )


@pytest.mark.parametrize("value", [3, [3], [{}] * 257, [{"overrides": 3}], [{"config_file": 3}], [{"files": 3}]])
def test_requests_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_requests(value, "x")


def test_a_wish_has_names_and_references_of_a_bounded_length() -> None:
    longest = "x" * 4096
    check_lengths(ApplyRequest(longest, longest, "n" * 256, files=(RecipeFile("f", longest), RecipeFile("g", ""))))
    for wish in (
        ApplyRequest(id=longest + "x"),
        ApplyRequest(url=longest + "x"),
        ApplyRequest(name="n" * 257),
        ApplyRequest(files=(RecipeFile("f", longest + "x"), RecipeFile("g", ""))),
    ):
        with pytest.raises(InvalidRequest, match="has more than"):
            check_lengths(wish)


def test_names() -> None:
    assert split_name("g@m") == ("g", "m")
    assert split_name("m") == ("", "m")
    assert same_name("Org/Model", "org__model")
    assert not same_name("a", "b")


def test_later_words_win_in_a_recipe() -> None:
    entry = IndexEntry(
        SOURCE, "m", overrides={"a": 2, "d": {"y": 2}}, files=(RecipeFile("f", "entry"),), description="said"
    )
    base = BaseFile(
        "base", "base's", {"a": 1, "b": 1, "d": {"x": 1, "y": 1}}, (RecipeFile("f", "base"),), (("t", "x"),)
    )
    recipe = build_recipe(entry, base, ApplyRequest(overrides={"a": 3}, files=(RecipeFile("g", "wish"),)))
    assert recipe.name == "m"
    assert recipe.document == {"name": "m", "a": 3, "b": 1, "d": {"x": 1, "y": 2}, "description": "said"}
    assert {file.filename: file.uri for file in recipe.files} == {"f": "entry", "g": "wish"}
    assert recipe.templates == (("t", "x"),)
    assert not recipe.may_copy


def test_what_the_definition_itself_wants_is_fetched_too_and_nothing_of_this_machine() -> None:
    config = {"mmproj": "huggingface://o/r/p.gguf", "download_files": [{"filename": "f", "uri": "file:///etc/passwd"}]}
    recipe = build_recipe(IndexEntry(SOURCE, "m", config=config), BaseFile(), ApplyRequest())
    assert [(file.filename, file.uri) for file in recipe.files] == [
        ("f", "file:///etc/passwd"),
        ("p.gguf", "huggingface://o/r/p.gguf"),
    ]
    assert recipe.document["mmproj"] == "p.gguf"
    assert not recipe.may_copy


def test_the_name_of_a_recipe() -> None:
    nameless = IndexEntry(SOURCE, "")
    assert build_recipe(nameless, BaseFile("b", config={"a": 1}), ApplyRequest(name="n")).name == "n"
    assert build_recipe(nameless, BaseFile("b", config={"a": 1}), ApplyRequest()).name == "b"
    assert build_recipe(nameless, BaseFile(config={"name": "c"}), ApplyRequest()).name == "c"
    with pytest.raises(InvalidRequest, match="neither a definition nor files"):
        build_recipe(IndexEntry(SOURCE, "m"), BaseFile(), ApplyRequest())
