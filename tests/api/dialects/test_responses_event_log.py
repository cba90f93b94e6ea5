from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.responses_event_log import EventLog
from localai.api.sse import SseEvent
from localai.mesh.errors import Conflict


def event(number: int, text: str = "") -> SseEvent:
    return SseEvent(f'{{"type":"t","sequence_number":{number},"x":"{text}"}}'.encode(), "t")


def log_of(*numbers: int, **limits: int) -> EventLog:
    log = EventLog(**limits)
    for number in numbers:
        log.add(number, event(number))
    return log


def test_what_came_after_a_number() -> None:
    log = log_of(0, 1, 2)
    every = [event(0), event(1), event(2)]
    assert log.after(None) == log.after(-1) == log.after(-7) == every
    assert log.after(0) == every[1:]
    assert log.after(2) == log.after(99) == []
    assert (log.oldest, log.last) == (0, 2)
    assert EventLog().after(None) == EventLog().after(5) == []


def test_a_later_run_begins_at_a_later_number() -> None:
    log = log_of(1000, 1001)
    assert log.after(None) == [event(1000), event(1001)]
    assert log.after(999) == log.after(-1)
    with pytest.raises(Conflict) as caught:
        log.after(5)
    assert caught.value.param == "starting_after"
    assert caught.value.message.startswith("starting_after=5 is older than the oldest retained event;")


@pytest.mark.parametrize("limits", [{"max_events": 3}, {"max_bytes": 3 * len(event(0).data)}])
def test_the_oldest_are_forgotten(limits: dict[str, int]) -> None:
    log = log_of(*range(5), **limits)
    assert log.after(1) == [event(2), event(3), event(4)]
    for number in (None, 0):
        with pytest.raises(Conflict):
            log.after(number)
    again = EventLog.parse(log.render())
    assert again.after(1) == log.after(1)
    with pytest.raises(Conflict):
        again.after(None)


def test_one_event_is_never_too_much() -> None:
    assert log_of(0, 1, max_bytes=1).after(0) == [event(1)]


@given(
    st.lists(
        st.text(st.characters(exclude_characters='"\\\n', exclude_categories=["Cs", "Cc"]), max_size=3), max_size=8
    )
)
def test_stored_events_are_the_same(texts: list[str]) -> None:
    log = EventLog()
    for number, text in enumerate(texts):
        log.add(number, event(number, text))
    assert EventLog.parse(log.render()).after(None) == log.after(None)


@pytest.mark.parametrize("text", ["", "x", "0\nnothing"])
def test_damaged_text(text: str) -> None:
    with pytest.raises(ValueError):
        EventLog.parse(text)
