from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from localai.api.sse import DONE, KEEP_ALIVE, NDJSON, SseEvent, encode_event


def parse(stream: bytes) -> list[tuple[str, str, bytes]]:
    """A reader of the standard, as simple as it can be."""
    events = []
    for block in stream.decode().split("\n\n")[:-1]:
        data, name, ident = [], "", ""
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match key:
                case "data":
                    data.append(value)
                case "event":
                    name = value
                case "id":
                    ident = value
        if data:
            events.append((name, ident, "\n".join(data).encode()))
    return events


def test_a_line_of_data() -> None:
    assert encode_event(SseEvent(b"{}")) == b"data: {}\n\n"
    assert encode_event(DONE) == b"data: [DONE]\n\n"


def test_name_and_id_come_first_and_stay_on_their_lines() -> None:
    assert encode_event(SseEvent(b"x", event="a\nb", id="7\r8")) == b"event: a b\nid: 7 8\ndata: x\n\n"


@given(st.lists(st.tuples(st.text("ab\n\r", max_size=6), st.sampled_from(["", "delta"]))))
def test_any_data_comes_back_with_its_line_ends(events: list[tuple[str, str]]) -> None:
    stream = b"".join(encode_event(SseEvent(data.encode(), event=name)) + KEEP_ALIVE for data, name in events)
    expected = [(name, "", data.replace("\r\n", "\n").replace("\r", "\n").encode()) for data, name in events]
    assert parse(stream) == expected


def test_lines_of_json_can_be_read_with_what_breaks_a_silence_before_them() -> None:
    stream = NDJSON.encode(SseEvent(b'{"a": 1}')) + NDJSON.keep_alive * 2 + NDJSON.encode(SseEvent(b"{}"))
    assert [json.loads(line) for line in stream.splitlines()] == [{"a": 1}, {}]
