from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localai.api.metric_labels import OTHER, BoundedNames, method_label, path_label


def test_methods_that_nobody_knows_are_one() -> None:
    assert [method_label(method) for method in ("GET", "DELETE", "BREW", "get")] == ["GET", "DELETE", OTHER, OTHER]


def test_paths_are_patterns_without_a_final_slash() -> None:
    patterns = ("/v1/models/{model}", "/v1/models/", "/", None)
    assert [path_label(pattern) for pattern in patterns] == ["/v1/models/{model}", "/v1/models", "/", ""]


@given(st.lists(st.text(max_size=3)))
def test_there_are_never_more_labels_than_allowed(names: list[str]) -> None:
    bounded = BoundedNames(limit=2)
    labels = [bounded.label(name) for name in names]
    assert len(set(labels) - {OTHER}) <= 2
    assert all(label in (name, OTHER) for label, name in zip(labels, names, strict=True))
    first = list(dict.fromkeys(names))[:2]
    assert all(bounded.label(name) == name for name in first)
