"""What is different between two looks."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from localai.node.catalog import Catalog
from localai.node.catalog_changes import CatalogChanges, changes, with_last_good
from localai.node.model_config import FileDownload, ModelConfig, Problem

A, B, C = (ModelConfig(name, f"{name}.gguf") for name in "abc")


def test_what_came_went_and_changed() -> None:
    described, moved = replace(B, description="new"), replace(C, model_file="d.gguf")
    assert changes(Catalog((A, B, C)), Catalog((described, moved, ModelConfig("d", "d.gguf")))) == CatalogChanges(
        added=("d",), removed=("a",), changed=("b", "c"), outdated=("c",)
    )


def test_nothing_is_false() -> None:
    fetched = replace(A, downloads=(FileDownload("a.gguf", "https://elsewhere/a.gguf"),))
    assert not changes(Catalog((A,)), Catalog((fetched,)))
    assert changes(Catalog((A,)), Catalog())


def test_a_disabled_model_is_removed() -> None:
    assert changes(Catalog((A,)), Catalog(disabled=(A,))) == CatalogChanges(removed=("a",))


_CATALOGS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y"])).map(
    lambda files: Catalog(tuple(ModelConfig(name, file) for name, file in sorted(files.items())))
)


@given(_CATALOGS, _CATALOGS)
def test_there_and_back(before: Catalog, after: Catalog) -> None:
    there, back = changes(before, after), changes(after, before)
    assert (there.added, there.removed, there.changed) == (back.removed, back.added, back.changed)
    assert set(there.outdated) <= set(there.changed)
    assert bool(there) is (before != after)


def test_what_cannot_be_read_any_more_stays() -> None:
    one, two = (ModelConfig(name, f"{name}.gguf", source="both.yaml") for name in ("one", "two"))
    before = Catalog((one, two))
    bare = Catalog((ModelConfig("one", "one.gguf"), ModelConfig("x", "x.gguf")), (Problem("both.yaml", "No YAML."),))
    assert with_last_good(before, bare).models == (one, two, ModelConfig("x", "x.gguf"))
    assert with_last_good(before, bare).problems == bare.problems
    half = Catalog((two,), (Problem("both.yaml", "Bad name.", "one"),))
    assert with_last_good(before, half).models == (one, two)


def test_what_is_gone_or_right_again_does_not_stay() -> None:
    one, two = (ModelConfig(name, f"{name}.gguf", source="both.yaml") for name in ("one", "two"))
    before = Catalog((one, two))
    hinted = Catalog((two,), (Problem("both.yaml", "Unknown key."),))
    assert with_last_good(before, hinted) == hinted
    assert with_last_good(before, Catalog()) == Catalog()
    moved = Catalog((replace(one, source="other.yaml"), two), (Problem("both.yaml", "Defined twice.", "one"),))
    assert with_last_good(before, moved) == moved
    disabled = Catalog((two,), (Problem("x.yaml", "No YAML."),), disabled=(one,))
    assert with_last_good(before, disabled) == disabled
