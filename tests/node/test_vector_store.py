from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest, LocalAIError, TooLarge
from localai.node.vector_store import Entry, StoreLimits, VectorStores

X, Y, MIDDLE = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]


def filled() -> VectorStores:
    stores = VectorStores()
    stores.set("s", [X, Y, MIDDLE], ["x", "y", "middle"])
    return stores


def test_what_is_set_is_got_in_the_order_of_the_question() -> None:
    stores = filled()
    assert stores.get("s", [MIDDLE, [5.0, 5.0], X]) == [Entry((1.0, 1.0), "middle"), Entry((1.0, 0.0), "x")]
    assert stores.get("other", [X]) == []
    assert stores.get("s", []) == []


def test_an_existing_key_gets_the_new_text_and_the_last_of_equal_keys_counts() -> None:
    stores = filled()
    stores.set("s", [X, Y, Y], ["new x", "lost", "new y"])
    assert [entry.value for entry in stores.get("s", [X, Y, MIDDLE])] == ["new x", "new y", "middle"]


def test_zero_has_no_sign() -> None:
    stores = filled()
    assert stores.get("s", [[1.0, -0.0]]) == [Entry((1.0, 0.0), "x")]


def test_finding_gives_the_most_alike_first() -> None:
    matches = filled().find("s", [2.0, 1.0], 3)
    assert [match.entry.value for match in matches] == ["middle", "x", "y"]
    assert [match.similarity for match in matches] == pytest.approx([3 / math.sqrt(10), 2 / 5**0.5, 1 / 5**0.5])
    assert [match.entry.value for match in filled().find("s", [2.0, 1.0], 1)] == ["middle"]
    assert filled().find("other", X, 1) == []


def test_opposite_zero_and_huge_keys() -> None:
    stores = VectorStores()
    stores.set("s", [[-1.0, 0.0], [0.0, 0.0], [1e300, 0.0], [5e-324, 0.0]], ["opposite", "zero", "huge", "tiny"])
    found = {match.entry.value: match.similarity for match in stores.find("s", [1e300, 0.0], 9)}
    assert found == {"huge": 1.0, "tiny": 1.0, "zero": 0.0, "opposite": -1.0}
    assert [match.similarity for match in stores.find("s", [0.0, 0.0], 9)] == [0.0] * 4


def test_what_is_deleted_is_gone_and_an_empty_store_may_begin_anew() -> None:
    stores = filled()
    stores.delete("s", [X, [9.0, 9.0]])
    assert [entry.value for entry in stores.get("s", [X, Y, MIDDLE])] == ["y", "middle"]
    stores.delete("s", [MIDDLE, Y])
    assert stores.used_bytes == 0
    stores.set("s", [[1.0, 2.0, 3.0]], ["longer"])
    stores.delete("other", [X])


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (lambda stores: stores.set("s", [], []), "keys"),
        (lambda stores: stores.set("s", [X], ["a", "b"]), "values"),
        (lambda stores: stores.set("s", [[1.0]], ["a"]), "keys"),
        (lambda stores: stores.set("new", [[]], ["a"]), "keys"),
        (lambda stores: stores.set("new", [X, [1.0]], ["a", "b"]), "keys"),
        (lambda stores: stores.set("n" * 257, [X], ["a"]), "store"),
        (lambda stores: stores.get("s", [[1.0]]), "keys"),
        (lambda stores: stores.find("s", X, 0), "topk"),
        (lambda stores: stores.find("s", [1.0], 1), "key"),
        (lambda stores: stores.delete("s", []), "keys"),
        (lambda stores: stores.delete("s", [[1.0]]), "keys"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(call: object, param: str) -> None:
    stores = filled()
    used = stores.used_bytes
    with pytest.raises(InvalidRequest) as caught:
        call(stores)  # type: ignore[operator]  # any of the lambdas above
    assert caught.value.param == param
    assert stores.used_bytes == used
    assert stores.get("new", [X]) == []


def test_limits_hold_for_all_stores_together() -> None:
    stores = VectorStores(StoreLimits(stores=2, keys=3, dimensions=2, bytes=10_000))
    stores.set("a", [X, Y], ["x", "y"])
    for name, keys, values, code in (
        ("b", [X, Y], ["x", "y"], "stores_full"),
        ("b", [X], ["x" * 10_000], "stores_full"),
        ("b", [[1.0, 2.0, 3.0]], ["long"], "key_too_long"),
    ):
        with pytest.raises(TooLarge) as caught:
            stores.set(name, keys, values)
        assert caught.value.code == code
    stores.set("a", [X, Y], ["new", "new"])  # these are no more keys
    stores.set("b", [X], ["x"])
    with pytest.raises(TooLarge) as caught:
        stores.set("c", [X], ["x"])
    assert caught.value.code == "too_many_stores"
    stores.delete("b", [X])
    stores.set("c", [X], ["x"])


def test_memory_is_given_back() -> None:
    stores = VectorStores()
    keys = [[float(number), 1.0] for number in range(1000)]
    stores.set("s", keys, ["text"] * 1000)
    full = stores.used_bytes
    stores.delete("s", keys[1:])
    assert stores.used_bytes < full / 50
    assert stores.get("s", keys[:2]) == [Entry((0.0, 1.0), "text")]


NUMBERS = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
KEYS = st.tuples(NUMBERS, NUMBERS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.text(max_size=3)), st.tuples(st.just("delete"), KEYS, st.just("gone"))
    ),
    max_size=60,
)


def cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    product = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / product if product else 0.0


@given(STEPS, KEYS, st.integers(1, 40))
@settings(max_examples=60)
def test_it_does_what_a_dictionary_and_the_definition_of_the_cosine_do(
    steps: list[tuple[str, tuple[float, float], str]], key: tuple[float, float], topk: int
) -> None:
    stores, model = VectorStores(), dict[tuple[float, ...], str]()
    for step, changed, value in steps:
        if step == "set":
            stores.set("s", [changed], [value])
            model[changed] = value
        else:
            stores.delete("s", [changed])
            model.pop(changed, None)
    everything = sorted(model)
    assert stores.get("s", everything) == [Entry(each, model[each]) for each in everything]
    matches = stores.find("s", key, topk)
    expected = sorted((cosine(key, each) for each in model), reverse=True)[:topk]
    assert [match.similarity for match in matches] == pytest.approx(expected, abs=1e-6)
    assert all(cosine(key, match.entry.key) == pytest.approx(match.similarity, abs=1e-6) for match in matches)
    assert all(model[match.entry.key] == match.entry.value for match in matches)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3), max_size=4), st.integers(-1, 3))
@settings(max_examples=60)
def test_any_numbers_give_an_answer_or_a_clean_error(keys: list[list[float]], topk: int) -> None:
    stores = VectorStores()
    try:
        stores.set("s", keys, ["v"] * len(keys))
        matches = stores.find("s", keys[0], topk)
    except LocalAIError:
        return
    assert all(-1 <= match.similarity <= 1 for match in matches)
