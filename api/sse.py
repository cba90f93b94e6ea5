"""Server-sent events: structures in, bytes out (pure).

Source: the WHATWG HTML standard, section "Server-sent events": fields ``event``, ``data`` and ``id``, one line each,
a blank line ends an event, a line that begins with a colon is a comment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: clients ignore it, proxies see traffic."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. Line ends inside ``data`` are kept; ``event`` and ``id`` are single lines."""

    data: bytes
    event: str = ""
    id: str = ""


DONE = SseEvent(b"[DONE]")
"""How OpenAI's streams end."""


def encode_event(event: SseEvent) -> bytes:
    """The bytes of one event."""
    head = b""
    if event.event:
        head += b"event: " + _single_line(event.event)
    if event.id:
        head += b"id: " + _single_line(event.id)
    if b"\n" not in event.data and b"\r" not in event.data:
        return head + b"data: " + event.data + b"\n\n"
    lines = event.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def _single_line(text: str) -> bytes:
    return text.replace("\r", " ").replace("\n", " ").encode() + b"\n"


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How the events of a stream are written."""

    content_type: str
    encode: Callable[[SseEvent], bytes]
    keep_alive: bytes
    """What breaks a long silence; empty for nothing."""


SSE = StreamForm("text/event-stream", encode_event, KEEP_ALIVE)
NDJSON = StreamForm("application/x-ndjson", lambda event: event.data + b"\n", b" ")
"""One JSON value on each line, as in Ollama's API. Its clients choke on empty lines, but JSON may begin with blanks."""
