"""The events of one response, for clients that come back for them (pure)."""

from __future__ import annotations

import msgspec

from localai.api.sse import SseEvent
from localai.mesh.errors import Conflict

MAX_EVENTS = 8192
MAX_BYTES = 4 << 20
_EVICTED_SHARE = 8
"""What part of the events goes at once when there are too many: dropping each one singly would copy all of them."""


class _Head(msgspec.Struct, frozen=True):
    """What of an event's payload is needed to send it once more."""

    type: str
    sequence_number: int


_DECODER = msgspec.json.Decoder(_Head)


class EventLog:
    """Events with their numbers, without gaps. The oldest are forgotten beyond either limit."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[SseEvent] = []
        self._bytes = 0
        self._begins = 0
        self._next = 0

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is remembered."""
        return self._next - len(self._events)

    @property
    def last(self) -> int:
        """The number of the newest event; -1 while there is none."""
        return self._next - 1

    def add(self, number: int, event: SseEvent) -> None:
        """Remember an event. ``number`` is one more than that of the event before."""
        if not self._next:
            self._begins = number
        self._events.append(event)
        self._bytes += len(event.data)
        self._next = number + 1
        while len(self._events) > self._max_events or (self._bytes > self._max_bytes and len(self._events) > 1):
            gone = max(1, len(self._events) // _EVICTED_SHARE)
            self._bytes -= sum(len(each.data) for each in self._events[:gone])
            del self._events[:gone]

    def after(self, number: int | None) -> list[SseEvent]:
        """The events that came after the one with this number; all that there were for None and below 0.

        Raises:
            Conflict: some of them are forgotten.
        """
        first = self.oldest
        wanted = self._begins if number is None or number < 0 else number + 1
        if wanted < first:
            message = (
                f"starting_after={wanted - 1} is older than the oldest retained event; the resume buffer evicted those "
                "events and the stream cannot be resumed from that point"
            )
            raise Conflict(message, code="events_evicted", param="starting_after")
        return self._events[wanted - first :]

    def render(self) -> str:
        """What is remembered, as text: the number of the first event there was, then one payload on each line."""
        return "\n".join([str(self._begins), *(event.data.decode() for event in self._events)])

    @classmethod
    def parse(cls, text: str) -> EventLog:
        """What :meth:`render` wrote."""
        begins, *lines = text.split("\n")
        log = cls()
        for line in lines:
            head = _DECODER.decode(line)
            log.add(head.sequence_number, SseEvent(line.encode(), head.type))
        log._begins = int(begins)
        return log
