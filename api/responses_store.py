"""Responses that clients may come back for, in the node's database (shell).

What is put in is found at once and written soon, one transaction for all that waits. While the database cannot be
written to, the newest responses are remembered in memory, within limits, and requests go on being answered.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from localai.api.dialects.responses import Clock
from localai.api.dialects.responses_chain import ChainWalk, items_of
from localai.api.dialects.responses_event_log import EventLog
from localai.api.dialects.responses_input import response_of_item
from localai.api.dialects.responses_record import (
    StoredResponse,
    is_expired,
    is_finished,
    parse_record,
    render_record,
)
from localai.api.schemas.responses_requests import InputItem
from localai.mesh.errors import LocalAIError
from localai.node.database.database import Database

_LOG = structlog.get_logger()

MAX_RESPONSES = 10_000
"""Responses that are kept; the oldest finished ones go first."""
MAX_SIZE = 1 << 30
"""Characters of all of them."""
MAX_UNWRITTEN_SIZE = 64 << 20
"""Characters that wait to be written; beyond it the oldest are given up."""
PATIENCE_S = 2.0
"""How long an answer waits for a database that is slow."""
SWEEP_S = 60.0
"""How often what is too old or too much is deleted."""
_ID = re.compile(r"resp_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """What is written of one response. Times are seconds since 1970; ``expires_at`` is 0 for never."""

    owner: str
    created_at: int
    expires_at: int
    unfinished: bool
    record: str
    events: str | None = None

    @property
    def size(self) -> int:
        """Characters of both texts."""
        return len(self.record) + len(self.events or "")


class ResponseStore:
    """All stored responses of a node. An owner finds only their own."""

    def __init__(self, database: Database, now: Clock = time.time) -> None:
        self._database = database
        self._now = now
        self._unwritten: dict[str, ResponseRow | None] = {}
        self._unwritten_size = 0
        self._being_written: dict[str, ResponseRow | None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._failed = False

    # Reading

    async def find(self, response_id: str, owner: str) -> StoredResponse | None:
        """A response, unless it has expired or is somebody else's.

        Raises:
            Unavailable: the database cannot be used now.
        """
        return (await self._read(response_id, owner))[0]

    async def events(self, response_id: str) -> EventLog | None:
        """The events of a finished response, if they were kept.

        Raises:
            LocalAIError: they are damaged.
            Unavailable: the database cannot be used now.
        """
        text: str | None = None
        if (known := self._known(response_id)) is not None:
            text = known[0].events if known[0] is not None else None
        elif self._database.may_hold_something:
            async with self._database.reading() as connection:
                from localai.api.responses_table import read_events

                text = await read_events(connection, response_id)
        try:
            return EventLog.parse(text) if text is not None else None
        except ValueError as error:
            raise LocalAIError("failed to get events: they are damaged. Ask for the response itself.") from error

    async def chain(self, last_id: str, owner: str) -> list[InputItem]:
        """The conversation that ends with a response, the oldest item first.

        Raises:
            NotFound: the response, or one before it, is not there.
            InvalidRequest: it is not finished, or the conversation is too long.
            Unavailable: the database cannot be used now.
        """
        walk = ChainWalk(last_id)
        while walk.wanted:
            walk.take(*await self._read(walk.wanted, owner))
        return walk.items()

    async def items(self, item_ids: Iterable[str], owner: str) -> dict[str, InputItem]:
        """Items of stored responses by their ids; those that are not there are left out.

        Raises:
            Unavailable: the database cannot be used now.
        """
        wanted = set(item_ids)
        found: dict[str, InputItem] = {}
        for response_id in sorted({response_of_item(item_id) for item_id in wanted} - {""}):
            if (record := await self.find(response_id, owner)) is not None:
                found |= {item.id: item for item in items_of(record) if item.id in wanted}
        return found

    async def unfinished(self) -> list[StoredResponse]:
        """What a node that starts has to take up, the oldest first.

        Raises:
            LocalAIError: the database cannot be used.
        """
        if not self._database.may_hold_something:
            return []
        async with self._database.reading() as connection:
            from localai.api.responses_table import read_unfinished

            texts = await read_unfinished(connection)
        return [record for record in map(parse_record, texts) if record is not None]

    # Writing

    def put(self, record: StoredResponse, events: EventLog | None = None) -> None:
        """Keep a response as it is now, in place of what was kept of it. Its events are kept when they are given."""
        row = ResponseRow(
            record.owner,
            record.response.created_at,
            record.expires_at,
            not is_finished(record),
            render_record(record),
            None if events is None else events.render(),
        )
        self._change(record.response.id, row)

    def forget(self, response_id: str) -> None:
        """Delete a response."""
        self._change(response_id, None)

    async def sweep(self) -> None:
        """Delete what has expired and what is too much."""
        if not self._database.may_hold_something:
            return
        try:
            async with self._database.writing() as connection:
                from localai.api.responses_table import forget_responses

                count = await forget_responses(connection, int(self._now()), MAX_RESPONSES, MAX_SIZE)
        except LocalAIError as error:
            self._note(error)
            return
        if count:
            _LOG.info("responses_forgotten", count=count)

    async def flush(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until what was to be written is; False when it is not. It is tried again with the next change.

        Cancelling leaves it being written.
        """
        if self._unwritten and self._writing is None:
            self._begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._writing is not None:
                    await asyncio.shield(self._writing)
        return not (self._unwritten or self._being_written)

    # Inside

    async def _read(self, response_id: str, owner: str) -> tuple[StoredResponse | None, int]:
        """A response and its size; nothing and 0."""
        text: str | None = None
        if (known := self._known(response_id)) is not None:
            text = known[0].record if known[0] is not None and known[0].owner == owner else None
        elif _ID.fullmatch(response_id) and self._database.may_hold_something:
            async with self._database.reading() as connection:
                from localai.api.responses_table import read_response

                text = await read_response(connection, response_id, owner)
        record = parse_record(text) if text is not None else None
        if text is None or record is None or is_expired(record, self._now()):
            return None, 0
        return record, len(text)

    def _known(self, response_id: str) -> tuple[ResponseRow | None] | None:
        """What is in memory of a response; None when nothing is."""
        for changes in (self._unwritten, self._being_written):
            if response_id in changes:
                return (changes[response_id],)
        return None

    def _change(self, response_id: str, row: ResponseRow | None) -> None:
        self._take_out(response_id)
        self._unwritten[response_id] = row
        self._unwritten_size += row.size if row is not None else 0
        while self._unwritten_size > MAX_UNWRITTEN_SIZE and len(self._unwritten) > 1:
            oldest = next(iter(self._unwritten))
            _LOG.warning("response_not_kept", response=oldest)
            self._take_out(oldest)
        if self._writing is None:
            self._begin()

    def _take_out(self, response_id: str) -> None:
        if (row := self._unwritten.pop(response_id, None)) is not None:
            self._unwritten_size -= row.size

    def _begin(self) -> None:
        # in a context of its own: its log lines are not those of the request that came first
        self._writing = asyncio.create_task(self._write(), context=contextvars.Context())

    async def _write(self) -> None:
        try:
            while self._unwritten:
                self._being_written, self._unwritten, self._unwritten_size = self._unwritten, {}, 0
                try:
                    async with self._database.writing() as connection:
                        from localai.api.responses_table import write_responses

                        await write_responses(connection, self._being_written)
                except LocalAIError as error:
                    self._note(error)
                    self._put_back()
                    return
                except Exception:  # the top of a task: the requests go on without being kept
                    _LOG.exception("responses_not_kept")
                    return
                self._failed = False
        finally:
            self._being_written = {}
            self._writing = None

    def _put_back(self) -> None:
        """What could not be written waits once more, before what came meanwhile."""
        waiting = {**self._being_written, **self._unwritten}
        self._unwritten, self._unwritten_size = waiting, sum(row.size for row in waiting.values() if row is not None)

    def _note(self, error: LocalAIError) -> None:
        """Say once what is wrong."""
        if not self._failed:
            _LOG.error("responses_not_kept", error=error.message, detail=error.detail[:500])
        self._failed = True
