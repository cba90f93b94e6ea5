from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from localai.node.gallery.index_parts import Part, split_list


def loaded(parts: tuple[Part, ...]) -> list[Any]:
    return [value for part in parts for value in yaml.safe_load(part.text)[part.borrowed :]]


def test_what_is_short_or_no_list_stays_whole() -> None:
    assert split_list("---\n- a\n- b\n", 100) == (Part("---\n- a\n- b\n"),)
    assert split_list("a: 1\nb: 2\n", 3) == (Part("a: 1\nb: 2\n"),)


def test_parts_borrow_what_they_refer_to() -> None:
    text = "---\n- &a {x: 1}\n- &b\n  <<: *a\n  y: 2\n- n: 1\n- <<: *b\n  z: 3\n"
    parts = split_list(text, 45)
    assert [part.borrowed for part in parts] == [0, 0, 2][-len(parts) :]
    assert loaded(parts) == yaml.safe_load(text)
    assert len(parts) > 1


def test_every_limit_gives_the_whole() -> None:
    text = "- &a {x: 1}\n- <<: *a\n- &b {x: 2}\n- <<: *a\n- [*a, *b]\n"
    for limit in range(5, 80):
        assert loaded(split_list(text, limit)) == yaml.safe_load(text)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9)), min_size=1, max_size=12),
    st.integers(1, 200),
)
def test_the_parts_are_the_whole(items: list[tuple[str, bool, int]], limit: int) -> None:
    known: dict[str, str] = {}
    text = ""
    for position, (name, refers, number) in enumerate(items):
        anchor = f"{name}{position}"
        text += f"- &{anchor}\n  own: {number}\n" + (f"  below: *{known[name]}\n" if refers and name in known else "")
        known[name] = anchor
    parts = split_list(text, limit)
    assert loaded(parts) == yaml.safe_load(text)
    assert all(len(part.text) <= limit or yaml.safe_load(part.text)[part.borrowed + 1 :] == [] for part in parts[:-1])
