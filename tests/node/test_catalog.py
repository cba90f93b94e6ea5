"""Which models a folder makes, and which one a name means."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest, ModelLoadFailed
from localai.node.catalog import Catalog, FolderListing, catalog_from_listing
from localai.node.model_config import ModelConfig, Problem


def _catalog(*files: str, **definitions: str) -> Catalog:
    texts = {f"{name}.yaml": text for name, text in definitions.items()}
    return catalog_from_listing(FolderListing(dict.fromkeys([*files, *texts], 1), texts))


def _names(catalog: Catalog) -> list[str]:
    return [config.name for config in catalog.models]


def test_definitions_and_bare_files_sorted_by_name() -> None:
    catalog = _catalog("used.gguf", "zebra.gguf", "notes.txt", m="{name: mouse, parameters: {model: used.gguf}}")
    assert _names(catalog) == ["mouse", "zebra"]
    assert catalog.models[1] == ModelConfig("zebra", "zebra.gguf")
    assert catalog.problems == ()


def test_what_is_no_model_of_its_own() -> None:
    catalog = _catalog(
        ".hidden.gguf",
        ".gguf",
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
        "mmproj-f16.gguf",
        "x-mmproj.gguf",
        "proj.gguf",
        "A.GGUF",
        "half.gguf.partial",
        a="{name: a, mmproj: proj.gguf}",
    )
    assert _names(catalog) == ["A", "a", "big-00001-of-00002"]


def test_a_model_is_found_by_name_and_by_file_name() -> None:
    catalog = _catalog("bare.gguf", "used.gguf", m="{name: mouse, parameters: {model: used.gguf}}")
    assert catalog.resolve("bare") is catalog.resolve("bare.gguf")
    assert catalog.resolve("mouse") is catalog.resolve("used.gguf")
    assert catalog.find("nothing") is None
    assert catalog.find("") is None


def test_an_empty_name_means_the_first() -> None:
    assert _catalog("b.gguf", "a.gguf").resolve("").name == "a"
    with pytest.raises(InvalidRequest, match="There is no model here") as caught:
        Catalog().resolve("")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_unknown_name_is_answered_with_the_next_step() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _catalog("a.gguf").resolve("x")
    assert caught.value.message == (
        "The model 'x' does not exist here. Call GET /v1/models to see what does, or add it to the models folder."
    )
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_broken_definition_says_so_when_asked_for() -> None:
    catalog = _catalog(m="{name: mouse, threads: many}", n="{name: other, threads: many}")
    with pytest.raises(ModelLoadFailed, match=r"definition of model 'mouse' is broken: m\.yaml needs") as caught:
        catalog.resolve("mouse")
    assert caught.value.code == "invalid_definition"
    with pytest.raises(ModelLoadFailed, match=r"n\.yaml"):
        catalog.resolve("other")


def test_the_later_definition_of_a_name_counts() -> None:
    catalog = _catalog(b="{name: m, parameters: {model: late.gguf}}", a="{name: m, parameters: {model: early.gguf}}")
    assert catalog.resolve("m").model_file == "late.gguf"
    message = "Model 'm' is defined twice: b.yaml is used, a.yaml is not. Rename one of them."
    assert catalog.problems == (Problem("a.yaml", message),)


def test_two_bare_files_of_one_name() -> None:
    catalog = _catalog("m.GGUF", "m.gguf")
    assert catalog.resolve("m").model_file == "m.gguf"
    assert [problem.source for problem in catalog.problems] == ["m.GGUF"]


def test_a_bare_file_does_not_hide_behind_a_definition_of_its_name() -> None:
    catalog = _catalog("m.gguf", m="{name: m, parameters: {model: other.gguf}}")
    assert catalog.resolve("m").model_file == "other.gguf"
    assert catalog.resolve("m.gguf").model_file == "m.gguf"
    assert _names(catalog) == ["m", "m.gguf"]
    assert "Ask for 'm.gguf' instead" in catalog.problems[0].message


def test_problems_of_the_listing_are_kept() -> None:
    problem = Problem("x.yaml", "x.yaml cannot be read.")
    assert catalog_from_listing(FolderListing(problems=(problem,))).problems == (problem,)


_TEXTS = st.sampled_from(["name: a", "name: b", "name: a.gguf", "[{name: a}, {name: b, mmproj: a.gguf}]", "", "x: ["])


@given(
    st.dictionaries(st.sampled_from(["a.gguf", "b.gguf", "a.GGUF", "c.txt"]), st.just(1)),
    st.dictionaries(st.sampled_from(["1.yaml", "2.yaml", "3.yml"]), _TEXTS),
    st.text(max_size=6),
)
def test_any_folder_gives_unique_sorted_models_that_resolve(
    files: dict[str, int], definitions: dict[str, str], name: str
) -> None:
    catalog = catalog_from_listing(FolderListing(files, definitions))
    names = _names(catalog)
    assert names == sorted(set(names))
    assert all(catalog.resolve(config.name) is config for config in catalog.models)
    backwards = FolderListing(dict(reversed(files.items())), dict(reversed(definitions.items())))
    assert catalog_from_listing(backwards) == catalog
    with contextlib.suppress(InvalidRequest, ModelLoadFailed):
        assert name in ("", catalog.resolve(name).name, catalog.resolve(name).model_file)
