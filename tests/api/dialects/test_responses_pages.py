from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.responses_pages import page_of, read_starting_after
from localai.api.schemas.responses_requests import InputItem
from localai.mesh.errors import InvalidRequest

ITEMS = [InputItem("message", f"i{number}") for number in range(25)]


def ids(query: Mapping[str, str]) -> list[str | None]:
    return [item.id for item in page_of(ITEMS, query).data]


def test_pages() -> None:
    assert ids({}) == [f"i{number}" for number in range(24, 4, -1)]
    page = page_of(ITEMS, {"order": "asc", "limit": "2", "after": "i3"})
    assert ([item.id for item in page.data], page.first_id, page.last_id) == (["i4", "i5"], "i4", "i5")
    assert page.has_more
    last = page_of(ITEMS, {"order": "asc", "after": "i24"})
    assert (last.data, last.first_id, last.last_id, last.has_more) == ([], None, None, False)
    assert ids({"after": ""}) == ids({})


@given(st.integers(1, 100), st.sampled_from(["asc", "desc"]))
def test_pages_one_after_the_other_give_everything(limit: int, order: str) -> None:
    seen: list[str | None] = []
    query = {"order": order, "limit": str(limit)}
    while True:
        page = page_of(ITEMS, query)
        seen += [item.id for item in page.data]
        if not page.has_more:
            break
        query["after"] = page.last_id or ""
    assert seen == [item.id for item in (ITEMS if order == "asc" else reversed(ITEMS))]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"order": "up"}, "order"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "9" * 9}, "limit"),
        ({"after": "unknown"}, "after"),
    ],
)
def test_bad_queries(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page_of(ITEMS, query)
    assert caught.value.param == param


def test_starting_after() -> None:
    assert read_starting_after(None) is read_starting_after("") is None
    assert read_starting_after("-1") == -1
    assert read_starting_after("7") == 7
    for text in ("x", "1.5", "--1", "-", "9" * 19):
        with pytest.raises(InvalidRequest, match="starting_after must be an integer"):
            read_starting_after(text)
