"""One session: over a socketpair with another session, or with a far side that says what a test wants it to."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import Category, LocalAIError, NotFound
from localai.mesh.identity import identity_from_private_key
from localai.mesh.ids import short_id
from localai.mesh.link import PeerStream
from localai.mesh.wire import FrameDecoder
from localai.node.event_queue import MAX_UNREAD_EVENTS
from localai.node.inference import (
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Request,
    RequestId,
    Started,
    TextInput,
    Tokens,
    Usage,
    is_terminal,
)
from localai.node.peers.received import MAX_ID_CHARS
from localai.node.peers.session import MAX_PEER_REQUESTS, MAX_UNSENT_BYTES, PeerSession, SessionTiming
from localai.node.peers.session_frames import (
    PROTOCOL,
    Goodbye,
    SessionFrame,
    SessionHeartbeat,
    SessionHello,
    session_codec,
)
from localai.node.routing.replica import ReplicaLoad
from localai.node.workers.frames import Ask, Cancel, Events

NEAR, FAR = (identity_from_private_key(bytes([seed]) * 32).peer_id for seed in (1, 2))
QUICK = SessionTiming(heartbeat_s=0.01)
RARE = SessionTiming(heartbeat_s=60.0)
"""One heartbeat at the start, and no more that could stand between the frames of a test."""
HELLO = SessionHello(1, 1, True, "test")
BEAT = SessionHeartbeat(1, 0, 0.0, False, (ReplicaLoad("m", slots=4),))
TOKEN = Tokens(0, (1,), b"x")
DONE = Finished(("stop",), Usage(1, 1))


def ask(name: str = "a", model: str = "m", text: str = "hello") -> GenerateRequest:
    return GenerateRequest(RequestId(name), model, TextInput(text))


@dataclass
class Script:
    """A service that answers every request with the batches in ``answer``, each after ``go`` was set."""

    answer: Sequence[list[Event]] = ([Started("", 1)], [TOKEN], [DONE])
    serves: bool = True
    draining: bool = False
    loads: Sequence[ReplicaLoad] = (ReplicaLoad("m", slots=4),)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Request] = field(default_factory=list)
    stopped: list[RequestId] = field(default_factory=list)
    """Requests that were closed before their end."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def refuses(self, model: str) -> LocalAIError | None:
        return NotFound("No such model.", code="model_not_found") if model == "hidden" else None

    def replicas(self) -> Sequence[ReplicaLoad]:
        return [msgspec.structs.replace(load, active=len(self.asked) - len(self.stopped)) for load in self.loads]

    async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        self.asked.append(request)
        self.arrived.set()
        ended = False
        try:
            for batch in self.answer:
                await self.go.wait()
                ended = is_terminal(batch[-1])
                yield batch
            if not ended:
                await asyncio.Event().wait()
        finally:
            if not ended:
                self.stopped.append(request.id)

    async def wait_asked(self, count: int) -> None:
        while len(self.asked) < count:
            self.arrived.clear()
            await self.arrived.wait()


def answering(*answer: list[Event], **changes: object) -> Script:
    """A script that does not wait."""
    script = Script(answer or Script().answer, **changes)  # type: ignore[arg-type]  # the tests name real fields
    script.go.set()
    return script


async def wait_heard(session: PeerSession) -> None:
    """Wait for the first heartbeat, if it has not come yet."""
    while session._load is None and not session.end_reason:
        await session.wait_heartbeat()


async def streams() -> tuple[PeerStream, PeerStream]:
    one, other = socket.socketpair()
    near = PeerStream(FAR, PROTOCOL, *await asyncio.open_connection(sock=one))
    return near, PeerStream(NEAR, PROTOCOL, *await asyncio.open_connection(sock=other))


class FarSide:
    """The other end of a session, frame by frame."""

    def __init__(self, stream: PeerStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._codec = session_codec()
        self._unread: list[SessionFrame] = []

    def send(self, *frames: SessionFrame) -> None:
        """All in one write."""
        self.stream.writer.write(b"".join(map(self._codec.encode, frames)))

    async def receive(self) -> SessionFrame | None:
        """The next frame; None at the end."""
        while not self._unread:
            try:
                data = await self.stream.reader.read(65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._unread += map(self._codec.decode, self._decoder.feed(data))
        return self._unread.pop(0)

    async def receive_but_beats(self) -> SessionFrame | None:
        while isinstance(frame := await self.receive(), SessionHeartbeat):
            pass
        return frame


@asynccontextmanager
async def with_far_side(
    service: Script | None = None,
    *greeting: SessionFrame,
    timing: SessionTiming = RARE,
) -> AsyncIterator[tuple[PeerSession, FarSide, asyncio.Task[str]]]:
    """A running session and its far side, which has said ``greeting``: a hello and a heartbeat unless given."""
    stream, far_stream = await streams()
    far = FarSide(far_stream)
    session = PeerSession(stream, service or Script(), "test", timing)
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(8):
            far.send(*(greeting or (HELLO, BEAT)))
            assert isinstance(await far.receive(), SessionHello)
            if not greeting:
                await wait_heard(session)
            yield session, far, running
    finally:
        far_stream.writer.transport.abort()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def pair(
    near: Script | None = None, far: Script | None = None, timing: SessionTiming = QUICK
) -> AsyncIterator[tuple[PeerSession, PeerSession]]:
    """Two sessions that speak with each other and can be used."""
    made = [
        PeerSession(stream, script or answering(), "test", timing)
        for stream, script in zip(await streams(), (near, far), strict=True)
    ]
    running = [asyncio.create_task(session.run()) for session in made]
    try:
        async with asyncio.timeout(8):
            for session in made:
                await wait_heard(session)
            yield made[0], made[1]
    finally:
        made[0].say_goodbye("the test ends")
        await asyncio.gather(*running)


async def collect(session: PeerSession, request: GenerateRequest) -> list[Event]:
    return [event async for batch in session.answer_batches(request) for event in batch]


def only_failure(events: Sequence[Event]) -> Failed:
    """The one terminal event, a failure."""
    assert [event for event in events if is_terminal(event)] == [events[-1]]
    assert isinstance(events[-1], Failed)
    return events[-1]


# Saying hello


async def test_hello_comes_first_and_then_a_heartbeat() -> None:
    stream, far_stream = await streams()
    far, session = FarSide(far_stream), PeerSession(stream, Script(), "me 1", RARE)
    running = asyncio.create_task(session.run())
    assert await far.receive() == SessionHello(1, 1, True, "me 1")
    assert await far.receive() == SessionHeartbeat(1, 0, 0.0, False, (ReplicaLoad("m", slots=4),))
    assert not session.is_usable
    far.send(HELLO)
    far.send(BEAT)
    await session.wait_heartbeat()
    assert session.is_usable
    far_stream.writer.close()
    assert await running == "connection lost"
    assert not session.is_usable


@pytest.mark.parametrize("frame", [BEAT, Ask(ask()), Cancel(RequestId("a")), Events(()), Goodbye("")])
async def test_anything_else_first_breaks_the_protocol(frame: SessionFrame) -> None:
    async with with_far_side(None, frame) as (_, __, running):
        assert await running == "broke the protocol: The first frame of a session is no hello."


async def test_a_second_hello_breaks_the_protocol() -> None:
    async with with_far_side() as (_, far, running):
        far.send(HELLO)
        assert await running == "broke the protocol: A second hello."


async def test_versions_that_have_something_in_common_speak() -> None:
    async with with_far_side(None, SessionHello(7, 1, True), BEAT) as (session, _, __):
        await wait_heard(session)
        assert session.is_usable


async def test_versions_that_have_nothing_in_common_part_politely() -> None:
    script = answering()
    async with with_far_side(script, SessionHello(7, 6, True), BEAT, Ask(ask())) as (session, far, running):
        assert await running == "speaks session version 7, we speak 1"
        assert await far.receive_but_beats() == Goodbye("speaks session version 7, we speak 1")
        assert await far.receive() is None
        assert not session.is_usable
        assert script.asked == []


# Asking and answering


async def test_an_answer_of_a_peer() -> None:
    async with pair() as (near, _):
        assert await collect(near, ask()) == [Started("", 1), TOKEN, DONE]
        assert near.in_flight() == {}


async def test_both_sides_ask_at_the_same_time_with_equal_ids() -> None:
    names = {"near": Tokens(0, (1,), b"near"), "far": Tokens(0, (2,), b"far")}
    scripts = {name: answering([Started("", 1)], [token], [DONE]) for name, token in names.items()}
    async with pair(scripts["near"], scripts["far"]) as (near, far):
        near_events, far_events = await asyncio.gather(collect(near, ask("same")), collect(far, ask("same")))
        assert names["far"] in near_events
        assert names["near"] in far_events


async def test_requests_with_one_id_are_kept_apart() -> None:
    async with pair() as (near, _):
        answers = await asyncio.gather(*(collect(near, ask("same")) for _ in range(3)))
        assert answers == [[Started("", 1), TOKEN, DONE]] * 3


async def test_what_comes_over_a_session_stays_here_and_has_an_id_of_its_own() -> None:
    script = answering()
    async with pair(None, script) as (near, _):
        await collect(near, ask())
        await collect(near, ask())
    first, second = script.asked
    assert first.local_only
    assert first.id != second.id
    assert first.id.startswith(short_id(NEAR))


async def test_events_of_one_turn_leave_in_one_frame() -> None:
    script = Script()
    async with with_far_side(script) as (_, far, __):
        names = [RequestId(str(number)) for number in range(5)]
        far.send(*(Ask(ask(name)) for name in names))
        await script.wait_asked(5)
        script.go.set()
        frames: list[Events] = []
        while sum(len(frame.events) for frame in frames) < 15:
            frame = await far.receive_but_beats()
            assert isinstance(frame, Events)
            frames.append(frame)
        assert len(frames) == 1  # a script whose gate is open gives all its batches in one turn
        assert sorted(request_id for request_id, _ in frames[0].events) == sorted(names * 3)


async def test_what_does_not_fit_into_one_frame_goes_into_several() -> None:
    long: list[Event] = [Tokens(0, (number,), b"x" * 10_000) for number in range(300)]
    async with pair(None, answering(long, [DONE])) as (near, _):
        assert await collect(near, ask()) == [*long, DONE]


async def test_each_turn_has_a_frame_of_its_own() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    class Gated(Script):
        async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
            for gate, batch in zip(gates, self.answer, strict=True):
                await gate.wait()
                yield batch

    async with with_far_side(Gated()) as (_, far, __):
        far.send(Ask(ask("1")), Ask(ask("2")))
        for gate, batch in zip(gates, Script().answer, strict=True):
            gate.set()
            frame = await far.receive_but_beats()
            assert isinstance(frame, Events)
            assert sorted(frame.events) == [(RequestId(name), batch[0]) for name in "12"]


async def test_a_request_that_is_closed_stops_at_the_peer() -> None:
    script = answering([Started("", 1)], [TOKEN])
    async with pair(None, script) as (near, far):
        async with aclosing(near.answer_batches(ask())) as batches:
            assert await anext(batches)
        assert near.in_flight() == {}
        while not script.stopped:
            await far.wait_heartbeat()
        assert len(script.stopped) == 1


async def test_a_cancel_in_the_wake_of_its_request_leaves_nothing_behind() -> None:
    """Both in one read: the answering task is cancelled before it has begun."""
    async with with_far_side(answering()) as (_, far, __):
        for number in range(MAX_PEER_REQUESTS + 10):
            name = RequestId(str(number))
            far.send(Ask(ask(name)), Cancel(name))
        far.send(Ask(ask("last")))
        frame = await far.receive_but_beats()
        assert isinstance(frame, Events)
        assert frame.events[0] == (RequestId("last"), Started("", 1))


async def test_cancels_of_unknown_requests_are_ignored() -> None:
    async with with_far_side(answering()) as (_, far, __):
        far.send(Cancel(RequestId("never seen")), Ask(ask()))
        assert isinstance(await far.receive_but_beats(), Events)


async def test_a_crash_in_the_service_is_an_end_for_the_peer() -> None:
    class Crashes(Script):
        async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
            yield [Started("", 1)]
            raise ZeroDivisionError("/secret/path")

    with capture_logs() as logs:
        async with pair(None, Crashes()) as (near, _):
            failed = only_failure(await collect(near, ask()))
            assert failed.category is Category.INTERNAL
            assert "secret" not in failed.message
            assert near.is_usable
    assert [line["event"] for line in logs] == ["peer_request_crashed"]


async def test_a_request_that_cannot_be_sent_fails_alone() -> None:
    async with pair() as (near, _):
        assert only_failure(await collect(near, ask(text="x" * (1 << 20)))).category is Category.TOO_LARGE
        assert only_failure(await collect(near, ask(text="\udcff"))).category is Category.TOO_LARGE
        assert (await collect(near, ask()))[-1] == DONE


async def test_an_answer_that_cannot_be_sent_ends_the_session() -> None:
    """The peer would wait for it for ever."""
    script = answering([Failed(Category.INTERNAL, "x", "\udcff")])
    with capture_logs() as logs:
        async with pair(None, script) as (near, far):
            assert only_failure(await collect(near, ask())).code == "peer_lost"
            assert far.end_reason == "something could not be sent"
    assert [line["event"] for line in logs] == ["session_frame_not_sent"]


# Refusing


@pytest.mark.parametrize(
    ("script", "code"),
    [(answering(serves=False), "does_not_serve"), (answering(draining=True), "unavailable")],
    ids=["does not serve", "draining"],
)
async def test_a_node_that_takes_no_requests_refuses_those_that_come(script: Script, code: str) -> None:
    async with with_far_side(script) as (_, far, __):
        far.send(Ask(ask()))
        frame = await far.receive_but_beats()
        assert isinstance(frame, Events)
        ((name, failed),) = frame.events
        assert isinstance(failed, Failed)
        assert (name, failed.category, failed.code) == ("a", Category.UNAVAILABLE, code)
        assert script.asked == []


async def test_a_peer_that_does_not_serve_is_not_asked() -> None:
    async with with_far_side(None, SessionHello(1, 1, False), BEAT) as (session, _, __):
        await wait_heard(session)
        assert not session.is_usable
        assert only_failure(await collect(session, ask())).code == "peer_lost"


async def test_a_peer_that_drains_is_not_asked_any_more() -> None:
    changes: list[bool] = []
    async with with_far_side() as (session, far, _):
        session._on_change = lambda: changes.append(session.is_usable)
        far.send(msgspec.structs.replace(BEAT, draining=True))
        await session.wait_heartbeat()
        assert changes == [False]
        assert only_failure(await collect(session, ask())).code == "peer_lost"


async def test_one_peer_gets_only_so_many_answers_at_a_time() -> None:
    script = Script()
    async with with_far_side(script) as (_, far, __):
        far.send(*(Ask(ask(str(number))) for number in range(MAX_PEER_REQUESTS + 1)))
        frame = await far.receive_but_beats()
        assert isinstance(frame, Events)
        ((name, failed),) = frame.events
        assert isinstance(failed, Failed)
        assert (name, failed.category) == (str(MAX_PEER_REQUESTS), Category.RATE_LIMITED)
        await script.wait_asked(MAX_PEER_REQUESTS)


async def test_a_harmful_request_is_refused() -> None:
    async with with_far_side(answering()) as (_, far, __):
        far.send(Ask(msgspec.structs.replace(ask(), choices=10**9)))
        frame = await far.receive_but_beats()
        assert isinstance(frame, Events)
        ((_, failed),) = frame.events
        assert isinstance(failed, Failed)
        assert (failed.category, failed.param) == (Category.INVALID_REQUEST, "choices")


# Ending


Ending = Callable[[PeerSession, FarSide], None]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda _, far: far.stream.writer.transport.abort(), "connection lost"),
        (lambda _, far: far.stream.writer.close(), "connection lost"),
        (lambda _, far: far.send(Goodbye("I\nstop")), "said goodbye: I stop"),
        (lambda _, far: far.stream.writer.write(b"\xff" * 100), "broke the protocol: A frame of 4294967295 bytes"),
        (lambda _, far: far.stream.writer.write(b"\0\0\0\x02\x91\xc1"), "broke the protocol: A frame could not"),
        (lambda _, far: far.send(Ask(ask("x")), Ask(ask("x"))), "broke the protocol: A request id is in use"),
        (lambda _, far: far.send(Ask(ask("x" * (MAX_ID_CHARS + 1)))), "broke the protocol: A request id has 65"),
        (lambda session, _: session.lose("left"), "left"),
        (lambda session, _: session.say_goodbye("the node stops"), "the node stops"),
    ],
    ids=["abort", "close", "goodbye", "too long", "garbage", "same id", "long id", "lose", "say goodbye"],
)
async def test_every_end_gives_each_request_one_failure(end: Ending, reason: str) -> None:
    script = Script()
    async with with_far_side(script) as (session, far, running):
        waiting = [asyncio.create_task(collect(session, ask(str(number)))) for number in range(3)]
        for _ in range(3):
            assert isinstance(await far.receive_but_beats(), Ask)
        far.send(Ask(ask("served")), Events(((RequestId("1"), Started("", 1)), (RequestId("1"), TOKEN))))
        await script.wait_asked(1)
        end(session, far)
        answers = await asyncio.gather(*waiting)
        assert (await running).startswith(reason)
        for events in answers:
            failed = only_failure(events)
            assert (failed.category, failed.code) == (Category.UNAVAILABLE, "peer_lost")
            assert failed.message.startswith(f"The node that was to answer ({short_id(FAR)}) is lost: {reason}")
        assert answers[0][:-1] == [Started("", 1), TOKEN]
        assert len(script.stopped) == len(script.asked)
        assert only_failure(await collect(session, ask("later"))).code == "peer_lost"
        assert await session.wait_heartbeat() is None


async def test_goodbye_comes_after_all_that_was_ready() -> None:
    script = answering()
    async with with_far_side(script) as (session, far, _):
        far.send(Ask(ask()))
        await script.wait_asked(1)
        session.say_goodbye("the node stops")
        session.say_goodbye("again")
        frame = await far.receive_but_beats()
        assert isinstance(frame, Events)
        assert frame.events[-1] == (RequestId("a"), DONE)
        assert await far.receive() == Goodbye("the node stops")
        assert await far.receive() is None


async def test_what_follows_the_end_in_the_same_read_is_not_begun() -> None:
    script = answering([Started("", 1)])
    async with with_far_side(script) as (_, far, running):
        far.send(Goodbye("bye"), Ask(ask()))
        assert await running == "said goodbye: bye"
        assert script.asked == []


async def test_silence_ends_a_session() -> None:
    async with with_far_side(timing=SessionTiming(0.01, 0.05)) as (session, _, running):
        failed = only_failure(await collect(session, ask()))
        assert "silent for 0.05 s" in failed.message
        assert await running == "silent for 0.05 s"


async def test_a_peer_that_never_says_hello_is_not_waited_for() -> None:
    stream, far_stream = await streams()
    session = PeerSession(stream, Script(), "test", SessionTiming(0.01, 60.0, hello_timeout_s=0.05))
    assert await session.run() == "silent for 0.05 s"
    far_stream.writer.transport.abort()


async def test_heartbeats_keep_a_quiet_session_alive() -> None:
    timing = SessionTiming(0.01, 0.5)
    async with pair(timing=timing) as (near, far):
        for _ in range(70):
            assert await near.wait_heartbeat() is not None
        assert near.is_usable
        assert far.is_usable


async def test_a_peer_that_reads_nothing_is_given_up() -> None:
    flood: list[list[Event]] = [[Tokens(0, (1,), b"x" * 10_000)] for _ in range(2 * MAX_UNSENT_BYTES // 10_000)]
    async with with_far_side(answering(*flood)) as (_, far, running):
        far.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]  # how a reader stops
        far.send(Ask(ask()))
        assert await running == "does not read what it is sent"


async def test_a_full_way_refuses_requests_instead_of_holding_them() -> None:
    async with with_far_side() as (session, far, _):
        far.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]  # how a reader stops
        text = "x" * 1_000_000
        asking = [asyncio.create_task(collect(session, ask(text=text))) for _ in range(2 * MAX_UNSENT_BYTES // 10**6)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        failed = only_failure(done.pop().result())
        assert (failed.category, failed.retry_after_s) == (Category.RATE_LIMITED, 1.0)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_a_session_that_is_cancelled_leaves_its_stream_closed() -> None:
    stream, far_stream = await streams()
    session = PeerSession(stream, Script(), "test")
    running = asyncio.create_task(session.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert session.end_reason == "ended by this node"
    assert stream.writer.transport.is_closing()
    far_stream.writer.transport.abort()


# What a peer says


async def test_a_flood_of_events_fails_its_request_and_no_other() -> None:
    async with with_far_side() as (session, far, _):
        batches = session.answer_batches(ask("flooded"))
        first = asyncio.ensure_future(anext(batches))
        assert isinstance(await far.receive_but_beats(), Ask)
        far.send(Events(((RequestId("1"), TOKEN),)))
        await first
        for _ in range(MAX_UNREAD_EVENTS // 1024 + 1):
            far.send(Events(((RequestId("1"), TOKEN),) * 1024))
        assert await far.receive_but_beats() == Cancel(RequestId("1"))
        far.send(Events(((RequestId("1"), TOKEN), (RequestId("1"), DONE))))
        rest = [event async for batch in batches for event in batch]
        assert len(rest) == MAX_UNREAD_EVENTS + 1
        assert only_failure(rest).category is Category.UPSTREAM_FAILED
        other = asyncio.create_task(collect(session, ask("other")))
        assert isinstance(await far.receive_but_beats(), Ask)
        far.send(Events(((RequestId("2"), DONE),)))
        assert await other == [DONE]


async def test_events_after_the_end_or_for_nobody_are_ignored() -> None:
    async with with_far_side() as (session, far, _):
        asking = asyncio.create_task(collect(session, ask()))
        assert isinstance(await far.receive_but_beats(), Ask)
        one, nobody = RequestId("1"), RequestId("nobody")
        far.send(Events(((nobody, TOKEN), (one, TOKEN), (one, DONE), (one, TOKEN), (one, DONE))))
        assert await asking == [TOKEN, DONE]
        assert session.is_usable


async def test_an_event_that_no_worker_gives_ends_the_session() -> None:
    async with with_far_side() as (session, far, running):
        asking = asyncio.create_task(collect(session, ask()))
        assert isinstance(await far.receive_but_beats(), Ask)
        far.send(Events(((RequestId("1"), Tokens(0, (1,), b"x" * 100_000)),)))
        assert only_failure(await asking).code == "peer_lost"
        assert (await running).startswith("broke the protocol")


async def test_hostile_heartbeats_are_brought_into_range() -> None:
    async with with_far_side() as (session, far, _):
        absurd = ReplicaLoad("m", -1, -5, 2**63, -7, True, False, math.nan, math.inf, -math.inf)
        names = (ReplicaLoad(""), ReplicaLoad("x" * 9999), ReplicaLoad("m"), ReplicaLoad("\x1b[2J"))
        far.send(SessionHeartbeat(-1, -1, math.nan, False, (absurd, *names)))
        await session.wait_heartbeat()
        (load,) = session.replicas()
        assert load == ReplicaLoad("m", 0, 1, 1_000_000, 0, True, False, 0.0, 1e7, 0.0)
        assert session.round_trip_s == 0.0


async def test_what_this_node_says_is_in_range_too() -> None:
    """A model whose name cannot be sent costs nothing but itself."""
    script = answering(loads=(ReplicaLoad("bad\udcff"), ReplicaLoad("m")))
    async with pair(None, script) as (near, _):
        assert [load.model for load in near.replicas()] == ["m"]


async def test_heartbeats_say_how_many_requests_are_the_readers() -> None:
    script = Script()
    async with pair(None, script) as (near, _):
        asking = asyncio.create_task(collect(near, ask()))
        await script.wait_asked(1)
        assert near.in_flight() == {"m": 1}
        while near.replicas()[0].yours != 1:
            await near.wait_heartbeat()
        script.go.set()
        await asking
        while near.replicas()[0].yours != 0:
            await near.wait_heartbeat()


async def test_a_change_is_told_at_once() -> None:
    script = answering()
    async with pair(None, script, RARE) as (near, far):
        script.draining = True
        far.beat_soon()
        beat = await near.wait_heartbeat()
        assert beat is not None
        assert beat.draining


async def test_changes_of_models_are_reported_and_those_of_load_are_not() -> None:
    changes: list[str] = []
    async with with_far_side() as (session, far, _):
        session._on_change = lambda: changes.append(",".join(load.model for load in session.replicas()))
        for loads in ([ReplicaLoad("m", active=3)], [ReplicaLoad("m"), ReplicaLoad("n")], []):
            far.send(msgspec.structs.replace(BEAT, replicas=tuple(loads)))
            await session.wait_heartbeat()
        assert changes == ["m,n", ""]


async def test_the_round_trip_is_measured_without_the_time_at_the_peer() -> None:
    async with with_far_side(timing=QUICK) as (session, far, _):
        assert session.round_trip_s == 0.0
        loop = asyncio.get_running_loop()
        asked: dict[int, float] = {}
        for number in range(2, 5):
            frame = await far.receive()
            assert isinstance(frame, SessionHeartbeat)
            came = asked[frame.number] = loop.time()
            far.send(SessionHeartbeat(number, frame.number, loop.time() - came, False, ()))
            await session.wait_heartbeat()
            assert 0 < session.round_trip_s < 5
        before = session.round_trip_s
        frame = await far.receive()
        assert isinstance(frame, SessionHeartbeat)
        far.send(SessionHeartbeat(5, frame.number, 1e9, False, ()))  # more than has passed counts as nothing
        await session.wait_heartbeat()
        assert 0 < session.round_trip_s < before
        far.send(SessionHeartbeat(6, frame.number, 0.0, False, ()))  # each heartbeat is measured once
        before = session.round_trip_s
        await session.wait_heartbeat()
        assert session.round_trip_s == before


async def test_echoes_tell_which_heartbeat_was_heard() -> None:
    async with with_far_side(timing=QUICK) as (_, far, __):
        far.send(msgspec.structs.replace(BEAT, number=77))
        while True:
            frame = await far.receive()
            assert isinstance(frame, SessionHeartbeat)
            if frame.echo == 77:
                assert frame.echo_after_s >= 0
                return
