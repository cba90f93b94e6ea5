from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category
from localai.mesh.ids import PeerId
from localai.node.inference import Event, Failed, Finished, Progress, Started, Tokens, Usage, is_terminal
from localai.node.routing.failover import MAX_ATTEMPTS, Attempts, is_retriable

A, B = PeerId("a"), PeerId("b")
LOST = Failed(Category.UNAVAILABLE, "peer_lost", "Lost.")
CRASHED = Failed(Category.UNAVAILABLE, "worker_lost", "Crashed.")
BAD = Failed(Category.INVALID_REQUEST, "invalid_request", "Bad.")
STARTED = Started("00", 3)
TOKEN = Tokens(0, (1,), b"x")
DONE = Finished(("stop",), Usage(3, 1))


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        (Category.UNAVAILABLE, True),
        (Category.UPSTREAM_FAILED, True),
        (Category.RATE_LIMITED, True),
        (Category.TIMEOUT, True),
        (Category.INTERNAL, True),
        (Category.UNSUPPORTED, True),
        (Category.INVALID_REQUEST, False),
        (Category.UNAUTHENTICATED, False),
        (Category.FORBIDDEN, False),
        (Category.NOT_FOUND, False),
        (Category.CONFLICT, False),
        (Category.TOO_LARGE, False),
    ],
)
def test_which_failures_another_node_may_not_have(category: Category, expected: bool) -> None:
    assert is_retriable(Failed(category, "any", "Any.")) is expected


def test_every_category_is_decided() -> None:
    assert len(Category) == 12


def test_a_peer_that_no_longer_has_the_model_is_only_out_of_date() -> None:
    assert is_retriable(Failed(Category.INVALID_REQUEST, "model_not_found", "Gone."))


@dataclass(frozen=True)
class Row:
    """What has happened, and whether the request moves on."""

    batch: list[Event]
    moves: bool
    tries: int = 1
    committed: bool = False


@pytest.mark.parametrize(
    "row",
    [
        Row([LOST], True),
        Row([Progress("queued", 1, 1), STARTED, LOST], True),
        Row([LOST], True, tries=MAX_ATTEMPTS - 1),
        Row([LOST], False, tries=MAX_ATTEMPTS),
        Row([LOST], False, committed=True),
        Row([STARTED, TOKEN, LOST], False),
        Row([BAD], False),
        Row([STARTED, TOKEN], False),
        Row([STARTED, TOKEN, DONE], False),
    ],
)
def test_when_a_request_moves_on(row: Row) -> None:
    attempts = Attempts(committed=row.committed)
    for _ in range(row.tries):
        attempts.begin(A)
    assert attempts.should_move_on(row.batch) == (row.batch[-1] if row.moves else None)


@pytest.mark.parametrize(
    ("tried", "failed", "excluded"),
    [
        ([A], LOST, {A}),
        ([None], LOST, {None}),
        ([A, None], LOST, {A, None}),
        ([A], CRASHED, set()),
        ([None, A], CRASHED, {None}),
        ([A, A], CRASHED, {A}),
        ([A, B, A], CRASHED, {A, B}),
        ([A], None, {A}),
    ],
)
def test_who_is_asked_again(tried: list[PeerId | None], failed: Failed | None, excluded: set[PeerId | None]) -> None:
    attempts = Attempts()
    for node in tried:
        attempts.begin(node)
    assert attempts.excluded(failed) == excluded


def test_only_the_first_start_is_given_out() -> None:
    attempts = Attempts()
    assert attempts.to_give_out([Progress("queued"), STARTED]) == [Progress("queued"), STARTED]
    assert not attempts.committed
    assert attempts.to_give_out([STARTED]) == []
    assert attempts.to_give_out([STARTED, TOKEN]) == [TOKEN]
    assert attempts.committed
    assert attempts.to_give_out([TOKEN, DONE]) == [TOKEN, DONE]


batches = st.lists(
    st.lists(st.sampled_from([Progress("queued"), STARTED, TOKEN]), min_size=1, max_size=3), min_size=1, max_size=3
)


@given(st.lists(st.tuples(batches, st.sampled_from([LOST, CRASHED, BAD, DONE])), min_size=1, max_size=8))
def test_whatever_happens_the_client_sees_one_start_and_one_end(
    tries: list[tuple[list[list[Event]], Event]],
) -> None:
    """As long as there is somebody to ask. A try's own second Started is its worker's business."""
    attempts = Attempts()
    seen: list[Event] = []
    for number, (parts, end) in enumerate(tries):
        attempts.begin(PeerId(str(number)))
        parts = [[event for event in part if not isinstance(event, Started)] for part in parts]
        failed = None
        tried: list[list[Event]] = [[STARTED], *filter(None, parts), [end]]
        for batch in tried:
            if (failed := attempts.should_move_on(batch)) is not None:
                break
            seen += attempts.to_give_out(batch)
        if failed is None:
            break
        assert not any(isinstance(event, Tokens) for event in seen)
    else:
        assert len(tries) < MAX_ATTEMPTS
        return
    assert sum(isinstance(event, Started) for event in seen) == 1
    assert [event for event in seen if is_terminal(event)] == seen[-1:]
