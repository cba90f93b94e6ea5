"""Which models a folder makes, and which one a name means."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Forbidden, InvalidRequest, ModelLoadFailed
from localai.node.catalog import Catalog, FolderListing, catalog_from_listing, parts_of, serves
from localai.node.model_config import ModelConfig, Problem
from localai.node.prompt_templates import PromptTemplates
from localai.node.usecases import USECASES


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


def test_an_alias_is_one_more_name() -> None:
    catalog = _catalog(
        "bare.gguf",
        a="[{name: m, parameters: {model: u.gguf}}, {name: n, alias: m}, {name: o, alias: bare},"
        " {name: far, alias: x}]",
    )
    assert _names(catalog) == ["bare", "m"]
    assert catalog.names() == ("bare", "far", "m", "n", "o")
    assert catalog.resolve("n") is catalog.resolve("m")
    assert catalog.find("o") is catalog.find("bare")
    assert (catalog.target("n"), catalog.target("m"), catalog.target("far")) == ("m", "m", "x")
    with pytest.raises(InvalidRequest, match="The model 'x', which 'far' stands for, does not exist here"):
        catalog.resolve("far")


@pytest.mark.parametrize("target", ["n", "o"])
def test_aliases_make_no_chains(target: str) -> None:
    catalog = _catalog("m.gguf", a=f"[{{name: n, alias: m}}, {{name: o, alias: {target}}}]")
    assert catalog.names() == ("m", "n")
    with pytest.raises(ModelLoadFailed, match=r"a\.yaml makes 'o' an alias of an alias"):
        catalog.resolve("o")


def test_a_disabled_model_is_refused_under_all_its_names() -> None:
    catalog = _catalog(
        "off.gguf",
        a="[{name: m, disabled: true, parameters: {model: off.gguf}}, {name: n, alias: m},"
        " {name: o, alias: x, disabled: true}]",
    )
    assert _names(catalog) == []
    for name in ("m", "n", "o", "off.gguf"):
        with pytest.raises(Forbidden, match=f"The model '{name}' is disabled on this node") as caught:
            catalog.resolve(name)
        assert (caught.value.code, caught.value.param) == ("model_disabled", "model")


@pytest.mark.parametrize(
    ("definition", "usecases"),
    [
        ("{name: m}", {"chat", "completion", "edit"}),
        ("{name: m, embeddings: true}", {"embeddings"}),
        ("{name: m, reranking: true}", {"rerank"}),
        ("{name: m, embeddings: true, known_usecases: [chat]}", {"chat"}),
    ],
)
def test_what_a_model_is_for(definition: str, usecases: set[str]) -> None:
    catalog = _catalog(m=definition)
    assert {usecase for usecase in USECASES if serves(catalog.models[0], usecase)} == usecases
    assert catalog.default("chat") == (catalog.models[0] if "chat" in usecases else None)


def test_template_files() -> None:
    listing = FolderListing(
        {"b.gguf": 1, "bare.gguf": 1, "bad.gguf": 1},
        {"x.yaml": "{name: m, parameters: {model: b.gguf}, template: {chat: chatml, use_tokenizer_template: true}}"},
        templates={
            "chatml": "<{{.Input}}>",
            "b.gguf": "beside",
            "bare.gguf": "bare {{.Input}}",
            "bad.gguf": "{{ if }}",
        },
    )
    catalog = catalog_from_listing(listing)
    assert catalog.resolve("m").templates == PromptTemplates(
        "<{{.Input}}>", completion="beside", edit="beside", use_tokenizer_template=True
    )
    own = "bare {{.Input}}"
    assert catalog.resolve("bare").templates == PromptTemplates(own, completion=own, edit=own)
    with pytest.raises(ModelLoadFailed, match="A template file of model 'bad' cannot be used: The chat template fails"):
        catalog.resolve("bad")
    assert catalog_from_listing(FolderListing({"a.gguf": 1})).resolve("a").templates is None


def test_the_file_from_elsewhere_counts_last() -> None:
    listing = FolderListing({}, {"z.yaml": "{name: m, description: first}"}, config_file=("a.yaml", "name: m"))
    catalog = catalog_from_listing(listing)
    assert catalog.models == (ModelConfig("m", "m", source="a.yaml"),)
    assert [problem.source for problem in catalog.problems] == ["z.yaml"]


def test_a_model_file_may_name_its_model() -> None:
    listing = FolderListing({"b.gguf": 1}, {"x.yaml": "parameters: {model: b.gguf}"})
    assert _names(catalog_from_listing(listing, lambda file: file.upper())) == ["B.GGUF"]
    assert "has no name" in catalog_from_listing(listing).problems[0].message


def test_many_definitions() -> None:
    listing = FolderListing({}, {f"{n:03}.yaml": f"name: m{n:03}" for n in range(200)})
    assert len(catalog_from_listing(listing).models) == 200


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


@pytest.mark.parametrize(
    "definition",
    [
        "{name: s, share: Private, parameters: {model: secret.gguf}}",
        "{name: s, share: private, context_size: 10000000000, parameters: {model: secret.gguf}}",
        "{name: s, share: private, parameters: {model: ./secret.gguf}}",
        "{name: s, share: private, threads: x, download_files: [{filename: .//secret.gguf}]}",
        "[{name: s, share: private, threads: x, mmproj: secret.gguf}]",
        "name: [",
    ],
)
def test_a_mistake_in_a_definition_makes_nothing_public(definition: str) -> None:
    catalog = catalog_from_listing(FolderListing({"secret.gguf": 1}, {"s.yaml": definition}))
    assert all(config.is_private for config in catalog.models)


def test_a_definition_that_nobody_can_read_keeps_bare_models_here() -> None:
    unreadable = Problem("s.yaml", "s.yaml cannot be read.")
    catalog = catalog_from_listing(FolderListing({"a.gguf": 1}, {}, (unreadable,)))
    assert [config.is_private for config in catalog.models] == [True]
    assert "not offered to others" in catalog.problems[-1].message
    assert not catalog_from_listing(FolderListing({"a.gguf": 1}, {"s.yaml": ""})).models[0].is_private


def test_the_parts_of_a_split_model() -> None:
    assert parts_of("in/m-00001-of-00003.GGUF") == tuple(f"in/m-0000{part}-of-00003.GGUF" for part in (1, 2, 3))
    for whole in ("m.gguf", "m-00001-of-00001.gguf", "m-00002-of-00003.gguf", "m-00001-of-00000.gguf", ""):
        assert parts_of(whole) == (whole,)
