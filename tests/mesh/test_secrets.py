from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.secrets import MASK, Secret

VALUE = "sk-very-private"


@dataclass(frozen=True)
class Holder:
    key: Secret[str]


@pytest.mark.parametrize(
    "text",
    [
        repr(Secret(VALUE)),
        str(Secret(VALUE)),
        f"{Secret(VALUE)}",
        f"{Secret(VALUE):>40}",
        f"{Secret(VALUE)!r}",
        repr(Secret(VALUE.encode())),
        repr(Holder(Secret(VALUE))),
        repr(asdict(Holder(Secret(VALUE)))),
        repr([Secret(VALUE)]),
    ],
)
def test_no_text_form_shows_the_value(text: str) -> None:
    assert VALUE not in text
    assert MASK in text


def test_reveal_gives_the_value_back() -> None:
    assert Secret(VALUE).reveal() == VALUE
    assert Secret(b"x").reveal() == b"x"


@given(st.text(), st.text())
def test_equality_follows_the_values(left: str, right: str) -> None:
    assert (Secret(left) == Secret(right)) is (left == right)
    if left == right:
        assert hash(Secret(left)) == hash(Secret(right))


def test_equality_knows_types_and_strange_characters() -> None:
    assert Secret("a") != Secret(b"a")
    assert Secret("a") != "a"
    assert Secret("a\udcff") == Secret("a\udcff")


def test_truth_is_that_of_the_value() -> None:
    assert Secret("x")
    assert not Secret("")


def test_copies_are_the_same_object() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_pickle_and_json_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Holder(Secret(VALUE)))
    with pytest.raises(TypeError):
        json.dumps({"key": Secret(VALUE)})
