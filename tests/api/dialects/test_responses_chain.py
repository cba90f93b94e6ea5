from __future__ import annotations

import pytest

from localai.api.dialects.responses_chain import ChainWalk, items_of
from localai.api.dialects.responses_record import StoredResponse
from localai.api.schemas.responses_objects import OutputCall, OutputItem, OutputMessage, OutputText, Response, Status
from localai.api.schemas.responses_requests import InputItem
from localai.mesh.errors import InvalidRequest, NotFound


def record(name: str, previous: str | None = None, status: Status = "completed", *more: OutputItem) -> StoredResponse:
    said: list[OutputItem] = [OutputMessage(id=f"{name}-out", status="completed", content=[OutputText(name)]), *more]
    made = Response(id=name, created_at=1, status=status, model="m", output=said, previous_response_id=previous)
    return StoredResponse(response=made, input=[InputItem("message", f"{name}-in", role="user", content=name)])


def test_the_oldest_comes_first() -> None:
    walk = ChainWalk("c")
    for name, previous in (("c", "b"), ("b", "a"), ("a", None)):
        assert walk.wanted == name
        walk.take(record(name, previous), 10)
    assert walk.wanted is None
    assert [item.id for item in walk.items()] == ["a-in", "a-out", "b-in", "b-out", "c-in", "c-out"]


def test_calls_that_were_cut_off_are_left_out() -> None:
    whole = OutputCall(id="1", status="completed", call_id="1", name="f", arguments="{}")
    cut = OutputCall(id="2", status="incomplete", call_id="2", name="f", arguments="{")
    assert [item.id for item in items_of(record("a", None, "incomplete", whole, cut))] == ["a-in", "a-out", "1"]


def test_a_missing_link() -> None:
    walk = ChainWalk("b")
    walk.take(record("b", "a"), 1)
    with pytest.raises(NotFound, match="previous response not found: a") as caught:
        walk.take(None, 0)
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_what_is_not_finished_cannot_be_continued(status: Status) -> None:
    with pytest.raises(InvalidRequest, match="not finished") as caught:
        ChainWalk("a").take(record("a", None, status), 1)
    assert caught.value.code == "previous_response_unfinished"


def test_limits() -> None:
    walk = ChainWalk("c", max_responses=2)
    walk.take(record("c", "b"), 1)
    with pytest.raises(InvalidRequest, match="too long"):
        walk.take(record("b", "a"), 1)
    walk = ChainWalk("b", max_responses=2, max_bytes=10)
    walk.take(record("b", "a"), 5)
    walk.take(record("a"), 5)
    with pytest.raises(InvalidRequest) as caught:
        ChainWalk("a", max_bytes=10).take(record("a"), 11)
    assert caught.value.code == "chain_too_long"
