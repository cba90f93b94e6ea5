"""Events of one request between who produces them and who reads them, on one event loop (shell)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from localai.node.inference import Event, Request, is_terminal

MAX_UNREAD_EVENTS = 8192
"""Events one request may have unread before it fails: what a client that stopped reading can make us hold."""


@dataclass(slots=True)
class EventQueue:
    """One request and the events its reader has not taken yet. Nothing is taken in after the terminal event."""

    request: Request
    ended: bool = False
    _unread: list[Event] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_full(self) -> bool:
        """True when the reader is too far behind."""
        return len(self._unread) >= MAX_UNREAD_EVENTS

    def put(self, event: Event) -> None:
        """Add an event."""
        if self.ended:
            return
        self._unread.append(event)
        self.ended = is_terminal(event)
        self._arrived.set()

    async def take(self) -> tuple[list[Event], bool]:
        """Wait for events; get all there are, and whether the terminal one is among them."""
        await self._arrived.wait()
        self._arrived.clear()
        batch, self._unread = self._unread, []
        return batch, self.ended
