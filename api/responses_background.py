"""Responses that are made in the background: nobody has to stay connected for them (shell).

They end when they are complete, when somebody cancels them, or with the node, which begins them anew once when it
starts again. While one is made its events are in memory; then they go to the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import msgspec
import structlog

from localai.api.dialects.exchange import Exchange, join_deltas
from localai.api.dialects.responses import Clock, ResponseBuilder, render_event
from localai.api.dialects.responses_event_log import EventLog
from localai.api.dialects.responses_record import StoredResponse, begun, ended, first_number, is_finished, taken_up
from localai.api.errors import CRASHED, OPAQUE_LATER, hide_error
from localai.api.responses_store import SWEEP_S, ResponseStore
from localai.api.schemas.responses_events import ResponseEvent
from localai.api.schemas.responses_objects import Response
from localai.api.sse import SseEvent
from localai.api.streaming import answer_events
from localai.mesh.errors import LocalAIError, RateLimited, Unavailable
from localai.node.answer_rules import AnswerRules
from localai.node.dispatch import Dispatch, Phase
from localai.node.inference import Failed, GenerateRequest, error_from_failed, failed_from_error
from localai.node.mcp.answering import answer_with_tools, open_tools
from localai.node.mcp.rounds import RoundEvent
from localai.node.mcp.sessions import McpSessions

_LOG = structlog.get_logger()

MAX_RUNNING = 64
"""Responses waiting or being made at once."""
MAX_PER_OWNER = MAX_RUNNING // 4
"""Of these, those of one key; on a node without keys everybody is one owner, and only the total counts."""
LAST_PATIENCE_S = 5.0
"""How long the end of the node waits for the database."""
_LOOK_S = 0.1
"""How often to look whether the node has become ready, at its start."""
_RETRY_S = 1.0
"""How soon what is left over is looked for again when the database failed; each time it takes twice as long."""


class BackgroundResponse:
    """One response while it is made."""

    def __init__(self, record: StoredResponse, rules: AnswerRules, now: Clock) -> None:
        self.record = record
        self.log = EventLog()
        self.interrupted = False
        """The node ends before the response does."""
        number = first_number(record)
        self._builder = ResponseBuilder(record.response, now, rules, watched=record.streamed, number=number)
        self._changed = asyncio.Event()
        self._add(self._builder.announce())

    @property
    def response(self) -> Response:
        """What is known of it so far."""
        return self._builder.response

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self._builder.ended

    def begin(self) -> None:
        """It is its turn."""
        self.record = begun(self.record)

    def feed(self, answer: RoundEvent) -> None:
        """Take the next event of its answer."""
        self._add(self._builder.feed(answer))

    def cancel(self) -> None:
        """Somebody does not want it any more; no late completion changes that."""
        self._add(self._builder.cancel())

    def interrupt(self) -> None:
        """Let go whoever follows it: the node ends."""
        self.interrupted = True
        self._tell()

    async def follow(self, after: int | None) -> AsyncIterator[list[SseEvent]]:
        """Its events after the one with a number, all that there are at a time, until it has ended.

        Raises:
            Conflict: events are forgotten that were to come next.
            Unavailable: the node ends.
        """
        while True:
            changed = self._changed
            events = self.log.after(after)
            if events:
                after = self.log.last
                yield events
            elif self.ended:
                return
            elif self.interrupted:
                raise Unavailable("This node is shutting down. Ask for the response again later.")
            else:
                await changed.wait()

    def _add(self, events: list[ResponseEvent]) -> None:
        for event in events:
            if self.record.streamed:
                self.log.add(event.sequence_number, render_event(event))
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class BackgroundResponses:
    """All of them. Each is a task of its own. ``sessions`` gives the connections to MCP servers, or refuses them."""

    def __init__(
        self,
        dispatch: Dispatch,
        store: ResponseStore,
        sessions: Callable[[], McpSessions],
        *,
        opaque: bool = False,
        now: Clock = time.time,
    ) -> None:
        self._dispatch = dispatch
        self._store = store
        self._sessions = sessions
        self._opaque = opaque
        self._now = now
        self._running: dict[str, tuple[BackgroundResponse, asyncio.Task[None]]] = {}
        self.taken_up = asyncio.Event()
        """Set once what the node that ended has left is under way."""
        self._taking_up = asyncio.Lock()
        self._settled: set[str] = set()
        """Begun or cancelled before what is left over was taken up: none of that."""
        self._keeper = asyncio.create_task(self._keep())

    async def begin(self, record: StoredResponse, request: GenerateRequest) -> BackgroundResponse:
        """Begin a response. It is stored when this returns, if the database works.

        Raises:
            RateLimited: too many are under way, of all or of this owner.
        """
        self._check_room(record.owner)
        self._settle(record.response.id)
        made = self._start(msgspec.structs.replace(record, request=request))
        await self._store.flush()
        return made

    def find(self, response_id: str, owner: str) -> BackgroundResponse | None:
        """A response that is under way, if it is this owner's."""
        made, _task = self._running.get(response_id, (None, None))
        return made if made is not None and made.record.owner == owner else None

    async def cancel(self, response_id: str, owner: str) -> Response | None:
        """End a response, one that still waits to be taken up too; get what it is now, None when it is not there.

        It is stored when this returns, if the database works.

        Raises:
            Unavailable: the database cannot be read now.
        """
        made = self.find(response_id, owner)
        if made is None:
            async with self._taking_up:
                made = self.find(response_id, owner)
                if made is None:
                    record = await self._store.find(response_id, owner)
                    if record is None or is_finished(record):
                        return record.response if record is not None else None
                    self._settle(response_id)
                    made = self._cancel_stored(record)
        await self._cancel_running(made)
        await self._store.flush()
        return made.response

    async def aclose(self) -> None:
        """Stop making responses; a node that starts takes up what is unfinished."""
        tasks = [self._keeper, *(task for _made, task in self._running.values())]
        for made, _task in self._running.values():
            made.interrupt()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.flush(LAST_PATIENCE_S)

    # Inside

    def _check_room(self, owner: str) -> None:
        theirs = sum(made.record.owner == owner for made, _task in self._running.values())
        if len(self._running) >= MAX_RUNNING:
            message = f"{MAX_RUNNING} responses are under way in the background. Try again when one is done."
        elif owner and theirs >= MAX_PER_OWNER:
            message = f"{theirs} responses of this key are under way in the background. Try again when one is done."
        else:
            return
        raise RateLimited(message, code="too_many_background_responses", retry_after_s=5.0)

    def _settle(self, response_id: str) -> None:
        if not self.taken_up.is_set():
            self._settled.add(response_id)

    async def _cancel_running(self, made: BackgroundResponse) -> None:
        if (running := self._running.get(made.response.id)) is None:
            return  # it has ended already
        _made, task = running
        made.cancel()
        self._finish(made)
        task.cancel()
        await asyncio.wait([task])

    def _cancel_stored(self, record: StoredResponse) -> BackgroundResponse:
        made = BackgroundResponse(record, self._dispatch.definition(record.response.model).answer, self._now)
        made.cancel()
        self._keep_end(made)
        return made

    def _start(self, record: StoredResponse) -> BackgroundResponse:
        rules = self._dispatch.definition(record.response.model).answer
        made = BackgroundResponse(record, rules, self._now)
        self._store.put(record)
        # it runs in the context of who asked for it: the log lines are those of that request
        self._running[record.response.id] = (made, asyncio.create_task(self._make(made)))
        return made

    async def _make(self, made: BackgroundResponse) -> None:
        assert made.record.request is not None, "a response that begins has a request"
        request, servers = made.record.request, made.record.mcp_servers
        made.begin()
        self._store.put(made.record)
        try:
            async with aclosing(self._answers(request, servers)) as batches:
                async for batch in batches:
                    for answer in join_deltas(batch):
                        if not self._feed(made, answer):
                            return
        except Exception as exception:  # the top of a task: it must become the end of the response
            _LOG.exception("background_response_crashed", kind=type(exception).__name__)
            made.feed(failed_from_error(LocalAIError(CRASHED)))
        self._finish(made)

    async def _answers(
        self, request: GenerateRequest, servers: tuple[str, ...] | None
    ) -> AsyncGenerator[list[RoundEvent], None]:
        """The answer, all that is ready at a time, ending with exactly one terminal event."""
        if servers is None:
            async with aclosing(answer_events(self._dispatch, Exchange((request,)))) as plain:
                async for answers in plain:
                    yield [*answers]
            return
        config = self._dispatch.definition(request.model)
        try:
            tools = await open_tools(self._sessions(), config, request, servers)
        except LocalAIError as error:
            yield [failed_from_error(error)]
            return
        async with aclosing(answer_with_tools(self._dispatch, request, tools, config.tool_rounds)) as rounds:
            async for batch in rounds:
                yield batch

    def _feed(self, made: BackgroundResponse, answer: RoundEvent) -> bool:
        """Whether it goes on: a failure because this node ends is none of the response."""
        if isinstance(answer, Failed):
            if self._dispatch.phase is Phase.CLOSING:
                made.interrupt()
                return False
            if self._opaque:
                answer = failed_from_error(hide_error(error_from_failed(answer), OPAQUE_LATER))
        made.feed(answer)
        return True

    def _finish(self, made: BackgroundResponse) -> None:
        if self._running.pop(made.response.id, None) is not None:
            self._keep_end(made)

    def _keep_end(self, made: BackgroundResponse) -> None:
        made.record = ended(made.record, made.response)
        self._store.put(made.record, made.log if made.record.streamed else None)

    async def _keep(self) -> None:
        """Take up what the node that ended has left, then sweep from time to time."""
        retry_s = _RETRY_S
        while True:
            if self._dispatch.phase is not Phase.READY:
                await asyncio.sleep(_LOOK_S)
                continue
            if not self.taken_up.is_set():
                async with self._taking_up:
                    await self._take_up()
            await self._store.sweep()
            await asyncio.sleep(SWEEP_S if self.taken_up.is_set() else min(retry_s, SWEEP_S))
            retry_s = min(2 * retry_s, SWEEP_S)

    async def _take_up(self) -> None:
        try:
            left = await self._store.unfinished()
        except LocalAIError as error:
            _LOG.error("responses_not_taken_up", error=error.message, detail=error.detail[:500])
            return
        if self._dispatch.phase is not Phase.READY:
            return  # the node ends: they are for the next one
        left = [record for record in left if record.response.id not in self._settled]
        self.taken_up.set()
        self._settled.clear()
        for record in left:
            record = taken_up(record, self._now())
            if is_finished(record):
                self._store.put(record)
            else:
                self._start(record)
        if left:
            _LOG.info("background_responses_taken_up", count=len(left))
