"""One session with one peer: asks it, and answers it (shell).

Everything is on the event loop's thread. Events that become ready in one turn of the loop leave in one frame and one
write. Whatever ends the session, every request in it gets its terminal event.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, assert_never

import msgspec
import structlog

from localai.mesh.errors import (
    InvalidRequest,
    LocalAIError,
    RateLimited,
    TooLarge,
    Unavailable,
    UpstreamFailed,
    WireError,
)
from localai.mesh.ids import short_id
from localai.mesh.link import PeerStream
from localai.mesh.wire import FrameDecoder
from localai.node.event_queue import EventQueue
from localai.node.inference import Event, Request, RequestId, failed_from_error
from localai.node.peers.received import (
    believed_event,
    believed_replicas,
    check_request,
    check_request_id,
    shown_text,
)
from localai.node.peers.session_frames import (
    HEARTBEAT_S,
    HELLO_TIMEOUT_S,
    OLDEST_VERSION,
    SESSION_VERSION,
    SILENCE_S,
    Goodbye,
    SessionFrame,
    SessionHeartbeat,
    SessionHello,
    can_speak,
    session_codec,
)
from localai.node.routing.replica import ReplicaLoad
from localai.node.workers.frames import Ask, Cancel, Events

_LOG = structlog.get_logger()

MAX_PEER_REQUESTS = 256
"""Requests of one peer at a time; more are refused."""
MAX_UNSENT_BYTES = 8 << 20
"""What may wait for a peer that does not read; more ends the session."""
MAX_FRAME_EVENTS = 1024
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class SessionTiming:
    """How patient a session is, in seconds."""

    heartbeat_s: float = HEARTBEAT_S
    silence_s: float = SILENCE_S
    """Several heartbeats: a busy machine or a lost packet must not end a session."""
    hello_timeout_s: float = HELLO_TIMEOUT_S
    close_timeout_s: float = 1.0
    """What is still to be sent at the end gets this long."""


class PeerLost(Unavailable):
    """The node that was answering is gone."""

    default_code = "peer_lost"


class Service(Protocol):
    """What a session offers to its peer."""

    @property
    def serves(self) -> bool:
        """Answers requests of members."""

    @property
    def draining(self) -> bool:
        """Takes no new ones."""

    def replicas(self) -> Sequence[ReplicaLoad]:
        """Models here that members may use, and how busy they are."""

    def refuses(self, model: str) -> LocalAIError | None:
        """Why a member gets no answer from this model; None when it may ask."""

    def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        """Answer a request here, whatever others could do."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """A request of the peer that is being answered."""

    model: str
    task: asyncio.Task[None]


class PeerSession:
    """Frames over one stream. ``run`` it; the rest may be used while it runs.

    ``on_change`` is called when the session becomes usable or stops being it, and when the peer's models change.
    """

    def __init__(
        self,
        stream: PeerStream,
        service: Service,
        program: str,
        timing: SessionTiming | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.peer = stream.peer
        self._timing = timing or SessionTiming()
        self._on_change = on_change
        self._stream = stream
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._codec = session_codec()
        self._hello = SessionHello(SESSION_VERSION, OLDEST_VERSION, service.serves, program)
        self._their_hello: SessionHello | None = None
        self._asked: dict[RequestId, EventQueue] = {}
        self._serving: dict[RequestId, _Serving] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._ready: list[tuple[RequestId, Event]] = []
        self._flush_planned = False
        self._numbers = itertools.count(1)
        self._asked_ids = itertools.count(1)
        self._internal_ids = itertools.count(1)
        self._sent_at: dict[int, float] = {}
        self._heard: tuple[int, float] = (0, 0.0)
        self._last_frame = self._loop.time()
        self._load: SessionHeartbeat | None = None
        self._beaten = asyncio.Event()
        self._end_reason = ""
        self.round_trip_s = 0.0
        """Seconds from here to the peer's node and back, smoothed; 0 before the first measurement."""

    # What routing asks

    @property
    def is_usable(self) -> bool:
        """True when requests may be sent."""
        hello, load = self._their_hello, self._load
        return not self._end_reason and hello is not None and hello.serves and load is not None and not load.draining

    @property
    def end_reason(self) -> str:
        """Why the session ended; empty while it has not."""
        return self._end_reason

    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """The peer's models as it last said."""
        return self._load.replicas if self._load else ()

    async def wait_heartbeat(self) -> SessionHeartbeat | None:
        """The next heartbeat of the peer; None when the session has ended."""
        await self._beaten.wait()
        return self._load if not self._end_reason else None

    def in_flight(self) -> Counter[str]:
        """Our requests to this peer, by model."""
        return Counter(queue.request.model for queue in self._asked.values())

    # Asking

    async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        """The peer's answer, all that is ready at a time, ending with exactly one terminal event.

        Closing the generator early makes the peer stop at its next engine step.
        """
        # An id of this session's own: short, because every event carries it, and never used again, so that what is
        # still on its way for a cancelled request meets nobody.
        wire_id = RequestId(str(next(self._asked_ids)))
        queue = self._asked[wire_id] = EventQueue(msgspec.structs.replace(request, id=wire_id))
        try:
            self._ask(queue)
            ended = False
            while not ended:
                batch, ended = await queue.take()
                yield batch
        finally:
            del self._asked[wire_id]
            if not queue.ended:
                self._send(Cancel(wire_id))

    def _ask(self, queue: EventQueue) -> None:
        if not self.is_usable:
            queue.put(failed_from_error(self._lost()))
            return
        try:
            data = self._codec.encode(Ask(queue.request))
        except WireError as error:
            message = "The request cannot be sent to another node: it is too long, or holds a value out of range."
            queue.put(failed_from_error(TooLarge(message, detail=error.detail)))
            return
        if self._unsent_bytes + len(data) > MAX_UNSENT_BYTES:
            message = "The way to the answering node is full. Try again soon."
            queue.put(failed_from_error(RateLimited(message, retry_after_s=1.0)))
            return
        self._stream.writer.write(data)

    def _lost(self) -> PeerLost:
        reason = self._end_reason or "not ready"
        return PeerLost(
            f"The node that was to answer ({short_id(self.peer)}) is lost: {reason}. Try again.", retry_after_s=1.0
        )

    # Running

    async def run(self) -> str:
        """Speak until the session ends; get the reason."""
        beating = self._loop.create_task(self._keep_beating(), context=contextvars.Context())
        try:
            self._send(self._hello)
            self._beat()
            await self._read()
        except OSError as error:
            self._end(str(error) or "connection lost")
        except WireError as error:
            self._end(f"broke the protocol: {error.message}")
        finally:
            self._end("ended by this node")
            beating.cancel()
            await asyncio.gather(beating, *self._answering, return_exceptions=True)
            await self._close()
        return self._end_reason

    async def _close(self) -> None:
        writer = self._stream.writer
        writer.close()
        try:
            async with asyncio.timeout(self._timing.close_timeout_s):
                await writer.wait_closed()
        except OSError:  # a TimeoutError is one too
            pass
        finally:
            writer.transport.abort()

    def say_goodbye(self, reason: str) -> None:
        """End the session in order."""
        if not self._end_reason:
            self._flush()
            self._send(Goodbye(reason))
            self._end(reason)
            self._stream.writer.close()
            self._loop.call_later(self._timing.close_timeout_s, self._stream.writer.transport.abort)

    def lose(self, reason: str) -> None:
        """The peer is known to be gone: fail everything now."""
        self._end(reason)
        self._stream.writer.transport.abort()

    def beat_soon(self) -> None:
        """Something changed that the peer should know now."""
        self._loop.call_soon(self._beat)

    def _end(self, reason: str) -> None:
        if self._end_reason:
            return
        self._end_reason = reason
        for queue in self._asked.values():
            queue.put(failed_from_error(self._lost()))
        for task in self._answering:
            task.cancel()
        self._beaten.set()
        self._on_change()

    async def _read(self) -> None:
        decoder = FrameDecoder()
        while not self._end_reason:
            data = await self._stream.reader.read(_READ_BYTES)
            if not data:
                raise ConnectionError("connection lost")
            self._last_frame = self._loop.time()
            for payload in decoder.feed(data):
                if self._end_reason:
                    return
                self._frame(self._codec.decode(payload))

    def _frame(self, frame: SessionFrame) -> None:
        if self._their_hello is None:
            if not isinstance(frame, SessionHello):
                raise WireError("The first frame of a session is no hello.")
            self._their_hello = frame
            if not can_speak(self._hello, frame):
                self.say_goodbye(f"speaks session version {frame.version}, we speak {SESSION_VERSION}")
            return
        match frame:
            case Events(events=events):
                for request_id, event in events:
                    self._event(request_id, event)
            case SessionHeartbeat():
                self._heartbeat(frame)
            case Ask(request=request):
                self._serve(request)
            case Cancel(request_id=request_id):
                if (serving := self._serving.pop(request_id, None)) is not None:
                    serving.task.cancel()
            case Goodbye(reason=reason):
                self._end(f"said goodbye: {shown_text(reason, 100)}")
            case SessionHello():
                raise WireError("A second hello.")
            case _:
                assert_never(frame)

    def _event(self, request_id: RequestId, event: Event) -> None:
        queue = self._asked.get(request_id)
        if queue is None or queue.ended:
            return  # abandoned; its Cancel is on the way
        if queue.is_full:
            queue.put(failed_from_error(UpstreamFailed("The client reads too slowly. Read the answer as it comes.")))
            self._send(Cancel(request_id))
            return
        queue.put(believed_event(event))

    # Heartbeats

    def _heartbeat(self, frame: SessionHeartbeat) -> None:
        now = self._loop.time()
        self._heard = (frame.number, now)
        before = self._offer()
        self._load = msgspec.structs.replace(frame, replicas=believed_replicas(frame.replicas))
        beaten, self._beaten = self._beaten, asyncio.Event()
        beaten.set()
        if self._offer() != before:
            self._on_change()
        if (sent_at := self._sent_at.pop(frame.echo, None)) is not None:
            measured = max(0.0, now - sent_at - max(0.0, frame.echo_after_s))
            self.round_trip_s = measured if not self.round_trip_s else 0.7 * self.round_trip_s + 0.3 * measured

    def _offer(self) -> tuple[bool, list[str]]:
        return self.is_usable, [replica.model for replica in self.replicas()]

    def _beat(self) -> None:
        if self._end_reason:
            return
        now, number = self._loop.time(), next(self._numbers)
        echo, heard_at = self._heard
        yours = Counter(serving.model for serving in self._serving.values())
        replicas = tuple(
            msgspec.structs.replace(replica, yours=yours[replica.model])
            for replica in believed_replicas(self._service.replicas())
        )
        self._sent_at[number] = now
        self._sent_at.pop(number - 16, None)
        self._send(SessionHeartbeat(number, echo, now - heard_at if echo else 0.0, self._service.draining, replicas))

    async def _keep_beating(self) -> None:
        timing, loop = self._timing, self._loop
        while not self._end_reason:
            due = loop.time() + timing.heartbeat_s
            await asyncio.sleep(timing.heartbeat_s)
            limit_s = timing.silence_s if self._their_hello is not None else timing.hello_timeout_s
            # When it is this node that stood still, what the peer said meanwhile has not been read yet.
            was_awake = loop.time() - due < timing.silence_s / 2
            if was_awake and loop.time() - self._last_frame > limit_s:
                self.lose(f"silent for {limit_s:g} s")
            self._beat()

    # Answering

    def _serve(self, request: Request) -> None:
        check_request_id(request)
        if request.id in self._serving:
            raise WireError("A request id is in use already.")
        if problem := self._refusal(request):
            self._emit(request.id, [failed_from_error(problem)])
            return
        # Ids of different peers, and ours, may be equal. A context of its own keeps log lines apart.
        internal = msgspec.structs.replace(
            request, id=RequestId(f"{short_id(self.peer)}/{next(self._internal_ids)}"), local_only=True
        )
        task = self._loop.create_task(self._answer(request.id, internal), context=contextvars.Context())
        self._serving[request.id] = _Serving(request.model, task)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def _refusal(self, request: Request) -> LocalAIError | None:
        if not self._service.serves:
            return Unavailable("This node does not answer requests of other nodes.", code="does_not_serve")
        if self._service.draining:
            return Unavailable("This node is shutting down. Ask another node.")
        if len(self._serving) >= MAX_PEER_REQUESTS:
            message = f"This node answers {MAX_PEER_REQUESTS} requests of one peer at a time. Try again soon."
            return RateLimited(message, retry_after_s=1.0)
        try:
            check_request(request)
        except InvalidRequest as error:
            return error
        return self._service.refuses(request.model)

    async def _answer(self, request_id: RequestId, request: Request) -> None:
        structlog.contextvars.bind_contextvars(peer=short_id(self.peer))
        try:
            async with aclosing(self._service.answer_batches(request)) as batches:
                async for batch in batches:
                    self._emit(request_id, batch)
        except Exception as error:  # a mistake of ours must not leave the peer without an end
            _LOG.exception("peer_request_crashed", kind=type(error).__name__)
            self._emit(request_id, [failed_from_error(LocalAIError("Something went wrong inside the answering node."))])
        # One that was cancelled is not there any more: its Cancel has removed it.
        self._serving.pop(request_id, None)

    def _emit(self, request_id: RequestId, batch: Sequence[Event]) -> None:
        """Send events with all others that become ready in this turn of the loop."""
        self._ready.extend((request_id, event) for event in batch)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        ready, self._ready = self._ready, []
        for start in range(0, len(ready), MAX_FRAME_EVENTS):
            self._send_events(ready[start : start + MAX_FRAME_EVENTS])

    def _send_events(self, events: Sequence[tuple[RequestId, Event]]) -> None:
        try:
            self._write(Events(tuple(events)))
        except WireError as error:
            if len(events) == 1:
                self._cannot_send(error)
                return
            middle = len(events) // 2
            self._send_events(events[:middle])
            self._send_events(events[middle:])

    @property
    def _unsent_bytes(self) -> int:
        return self._stream.writer.transport.get_write_buffer_size()

    def _send(self, frame: SessionFrame) -> None:
        try:
            self._write(frame)
        except WireError as error:
            self._cannot_send(error)

    def _write(self, frame: SessionFrame) -> None:
        if self._end_reason:
            return
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self.lose("does not read what it is sent")
            return
        self._stream.writer.write(self._codec.encode(frame))

    def _cannot_send(self, error: WireError) -> None:
        """The peer would wait for ever for what was in the frame."""
        _LOG.error("session_frame_not_sent", peer=short_id(self.peer), error=error.message, detail=error.detail)
        self.lose("something could not be sent")
