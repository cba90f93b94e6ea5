"""All nodes of a swarm: whole nodes over fake links."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace

from structlog.testing import capture_logs

from localai.mesh.control import Left
from localai.mesh.ids import PeerId, short_id
from localai.mesh.link import PeerStream
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.dispatch import RoutingRules
from localai.node.inference import Event, GenerateRequest, Request, RequestId, TextInput
from localai.node.peers.peers import Peers, PeersTiming
from localai.node.peers.record import NodeRecord
from localai.node.peers.session import PeerSession, SessionTiming
from localai.node.peers.session_frames import PROTOCOL
from localai.node.routing.replica import ReplicaLoad
from localai.node.testing.fake_node import QUICK, FakeNode, fake_node
from localai.node.testing.fake_worker import FakeWorker

TIMEOUT_S = 15


class Nodes(AsyncExitStack):
    """Nodes of one swarm, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.swarm = FakeSwarm()

    async def join(self, seed: int, *models: str, **options: object) -> FakeNode:
        return await self.enter_async_context(fake_node(self.swarm, seed, models, **options))  # type: ignore[arg-type]  # the tests name real ones


def session_with(node: FakeNode, peer: FakeNode) -> PeerSession:
    session = node.peers.session(peer.peer_id)
    assert session is not None
    return session


async def usable(node: FakeNode, *peers: FakeNode) -> None:
    """Wait until a node can ask exactly these."""
    wanted = {peer.peer_id for peer in peers}
    await node.wait_peers(lambda known: {each.peer for each in known.statuses() if each.usable} == wanted)


def opens(one: FakeNode, other: FakeNode) -> tuple[FakeNode, FakeNode]:
    """The one with the smaller id first: it opens the session."""
    return (one, other) if one.peer_id < other.peer_id else (other, one)


async def test_two_nodes_know_each_others_models() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(1, "a", "both"), await nodes.join(2, "b", "both")
        await one.wait_models("b", "both")
        await other.wait_models("a", "both")
        assert one.peers.peer_id == one.peer_id
        (candidate,) = one.peers.candidates("both")
        assert (candidate.peer, candidate.load.model, candidate.in_flight) == (other.peer_id, "both", 0)
        assert one.peers.candidates("a") == []
        assert one.peers.session(PeerId("nobody")) is None


async def test_each_pair_has_one_session_whoever_comes_first() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        made = [await nodes.join(seed, "m") for seed in range(1, 6)]
        for node in made:
            await usable(node, *(other for other in made if other is not node))
        for node in made:
            streams = [stream for stream in node.link._streams if not stream.writer.is_closing()]
            assert sorted(stream.peer for stream in streams) == sorted(set(nodes.swarm.links) - {node.peer_id})


def seeds_in_order() -> tuple[int, int]:
    """Two seeds, the one with the smaller id first."""
    swarm = FakeSwarm()
    one, other = swarm.link(1, ()), swarm.link(2, ())
    return (1, 2) if one.peer_id < other.peer_id else (2, 1)


SMALLER, LARGER = seeds_in_order()


async def test_the_smaller_id_opens() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(SMALLER)
        bare = nodes.swarm.link(LARGER, (PROTOCOL,))
        stream = await bare.accept()
        assert (stream.peer, stream.protocol) == (node.peer_id, PROTOCOL)


async def test_the_larger_id_waits_to_be_asked() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(LARGER, "m")
        bare = nodes.swarm.link(SMALLER, (PROTOCOL,))
        stream = await bare.open(node.peer_id, PROTOCOL)
        assert await stream.reader.readexactly(4)  # its hello
        assert bare._accepted.empty()


async def test_a_second_session_of_a_peer_takes_the_place_of_the_first() -> None:
    """It has noticed the end of the old one before this node has."""
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(LARGER, "m")
        bare = nodes.swarm.link(SMALLER, (PROTOCOL,))
        first = await bare.open(node.peer_id, PROTOCOL)
        assert await first.reader.readexactly(4)
        second = await bare.open(node.peer_id, PROTOCOL)
        assert await second.reader.readexactly(4)
        with contextlib.suppress(ConnectionError):
            await first.reader.read()  # to its end
        assert list(node.peers._sessions) == [bare.peer_id]


async def test_streams_of_other_protocols_are_closed() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(1)
        node.link.protocols = (PROTOCOL, "/other/1")
        bare = nodes.swarm.link(2, ())
        stream = await bare.open(node.peer_id, "/other/1")
        assert await stream.reader.read() == b""
        stream.writer.close()


async def test_a_session_that_breaks_is_opened_again_as_often_as_it_takes() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(SMALLER, "a"), await nodes.join(LARGER, "b")
        for number in range(12):
            await usable(one, other)
            await usable(other, one)
            before = session_with(one, other)
            if number % 2:
                before.lose("broken")
            else:
                session_with(other, one).lose("broken")
            await one.wait_peers(lambda peers, before=before: peers.session(other.peer_id) not in (None, before))  # type: ignore[misc]  # bound at once
        assert one.link.statistics().members == (other.peer_id,)


async def test_a_session_that_cannot_be_had_is_tried_again() -> None:
    """A stream that ends at once was refused by the other side: it may be a moment too early for it."""
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(SMALLER)
        early = nodes.swarm.link(LARGER, ())
        await node.wait_peers(lambda peers: bool(peers.statuses()))
        assert not node.peers.statuses()[0].usable
        early.protocols = (PROTOCOL,)
        assert (await early.accept()).peer == node.peer_id


async def test_pauses_grow_and_begin_anew_after_a_session_that_lasted() -> None:
    """What is never well is asked ever less often: the last pause would end no test."""
    timing = replace(QUICK, reopen_s=(0.0, 0.0, 600.0), healthy_s=600.0)
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(SMALLER, timing=timing)
        bare = nodes.swarm.link(LARGER, (PROTOCOL,))
        for _ in range(3):
            (await bare.accept()).writer.close()
        await node.wait_peers(lambda peers: not peers._sessions)
        assert bare._accepted.empty()
    lasting = replace(timing, healthy_s=0.0)
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        await nodes.join(SMALLER, timing=lasting)
        bare = nodes.swarm.link(LARGER, (PROTOCOL,))
        for _ in range(9):
            (await bare.accept()).writer.close()


async def test_a_member_that_goes_and_comes_has_one_session_at_a_time() -> None:
    """Comes back before its old keeper would have noticed: two keepers would throw each other out for ever."""
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(SMALLER, "a"), await nodes.join(LARGER, "b")
        for _ in range(3):
            await usable(one, other)
            nodes.swarm.cut(one.link, other.link)
            nodes.swarm.mend(one.link, other.link)
            await one.wait_peers(lambda peers: peers.session(other.peer_id) is None)
        await usable(one, other)
        session = session_with(one, other)
        for _ in range(20):
            assert await session.wait_heartbeat() is not None
        assert len(one.peers._keepers) == 1


async def test_who_has_left_is_not_asked_and_not_reopened() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(SMALLER), await nodes.join(LARGER, "b")
        await one.wait_models("b")
        session = session_with(one, other)
        nodes.swarm.cut(one.link, other.link)
        await one.wait_models()
        assert session.end_reason == "connection lost"
        assert one.peers.session(other.peer_id) is None
        assert one.peers._keepers == {}
        (status,) = one.peers.statuses()  # its record is still there
        assert (status.connected, status.usable) == (False, False)
        assert status.record is not None


async def test_records_come_change_and_expire() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(1), await nodes.join(2, "b")

        def record(peers: Peers) -> NodeRecord | None:
            return next((status.record for status in peers.statuses() if status.peer == other.peer_id), None)

        await one.wait_peers(lambda peers: record(peers) is not None)
        known = record(one.peers)
        assert known is not None
        assert (known.program, known.serves, known.draining) == ("fake 1", True, False)
        assert [(model.name, model.facts) for model in known.models] == [("b", None)]
        await other.dispatch.answer_batches(GenerateRequest(RequestId("a"), "b", TextInput("x"))).__anext__()
        await one.wait_peers(lambda peers: (known := record(peers)) is not None and known.models[0].facts is not None)
        other.link.die()
        await one.wait_peers(lambda peers: record(peers) is None)
        assert one.peers.statuses() == ()


async def test_a_record_that_cannot_be_read_is_left_out() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(1)
        bare = nodes.swarm.link(2, ())
        await node.wait_peers(lambda peers: bool(peers.statuses()))
        with capture_logs() as logs:
            bare.publish(b"\xc1")
            bare.publish(b"\x80")
            await node.wait_peers(lambda peers: any(status.record for status in peers.statuses()))
        assert [line["event"] for line in logs] == ["peer_record_unreadable"]


async def test_statuses_name_everybody_the_connected_ones_first() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, *others = [await nodes.join(seed, "m") for seed in range(1, 5)]
        await usable(one, *others)
        await one.wait_peers(lambda peers: all(status.record for status in peers.statuses()))
        nodes.swarm.cut(one.link, others[0].link)
        await usable(one, *others[1:])
        statuses = one.peers.statuses()
        assert [status.connected for status in statuses] == [True, True, False]
        assert statuses[-1].peer == others[0].peer_id
        assert [status.peer for status in statuses[:2]] == sorted(node.peer_id for node in others[1:])
        assert all(status.in_flight == 0 for status in statuses)
        assert one.peers.statistics().members == tuple(node.peer_id for node in others[1:])


async def test_members_are_found_by_their_ends() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(1), await nodes.join(2)
        await usable(one, other)
        for name in (other.peer_id, short_id(other.peer_id), other.peer_id[-4:]):
            assert one.peers.find(name) == other.peer_id
        for name in ("", other.peer_id[-3:], other.peer_id[:8], "nobody", one.peer_id):
            assert one.peers.find(name) is None


async def test_two_members_with_one_end_are_not_mistaken_for_each_other() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one, other = await nodes.join(1), await nodes.join(2)
        await usable(one, other)
        twin = PeerId("x" + other.peer_id[-8:])
        one.peers._members.add(twin)
        assert one.peers.find(other.peer_id[-8:]) is None
        assert one.peers.find(twin) == twin
        assert one.peers.find(other.peer_id) == other.peer_id


async def test_requests_of_this_node_count_at_once() -> None:
    """Those of others as the peer tells, ours without waiting for that."""
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one = await nodes.join(1)
        other = await nodes.join(2, "m", make=lambda: FakeWorker(before_step=hold))
        await one.wait_models("m")
        session = session_with(one, other)
        batches = [
            session.answer_batches(GenerateRequest(RequestId(str(number)), "m", TextInput("x"))) for number in range(3)
        ]
        waiting = [asyncio.ensure_future(anext(each)) for each in batches]
        await asyncio.sleep(0)
        assert one.peers.candidates("m")[0].in_flight == 3
        while one.peers.candidates("m")[0].load.yours != 3:
            await session.wait_heartbeat()
        assert one.peers.candidates("m")[0].in_flight == 3
        assert one.peers.statuses()[0].in_flight == 3
        go.set()
        await asyncio.gather(*waiting)
        for each in batches:
            await each.aclose()
        assert one.peers.candidates("m")[0].in_flight == 0


async def test_a_node_that_does_not_serve_offers_nothing() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        quiet = await nodes.join(1, "m", rules=RoutingRules(serves=False))
        other = await nodes.join(2, "n")
        await quiet.wait_models("n")
        await other.wait_peers(
            lambda peers: bool(peers._sessions) and any(status.record for status in peers.statuses())
        )
        assert other.peers.models() == set()
        assert other.peers.candidates("m") == []
        record = other.peers.statuses()[0].record
        assert record is not None
        assert not record.serves


async def test_a_node_that_stops_says_so_at_once() -> None:
    slow = replace(QUICK, look_s=600.0, session=SessionTiming(heartbeat_s=2.0))
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        one = await nodes.join(1)
        stopping = asyncio.Event()

        async def hold() -> None:
            stopping.set()
            await asyncio.Event().wait()

        other = await nodes.join(2, "m", make=lambda: FakeWorker(before_step=hold), timing=slow)
        await one.wait_models("m")
        asking = asyncio.create_task(
            anext(other.dispatch.answer_batches(GenerateRequest(RequestId("a"), "m", TextInput("x"))))
        )
        await stopping.wait()
        closing = asyncio.create_task(other.dispatch.aclose(600.0))
        await one.wait_models()
        (status,) = one.peers.statuses()
        assert (status.connected, status.usable) == (True, False)
        closing.cancel()
        await asyncio.gather(closing, asking, return_exceptions=True)


async def test_closing_says_goodbye_and_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(TIMEOUT_S):
        async with Nodes() as nodes:
            one, other = await nodes.join(1, "a"), await nodes.join(2, "b")
            await usable(one, other)
            await usable(other, one)
            session = session_with(other, one)
            await one.dispatch.aclose(0.0)
            while await session.wait_heartbeat() is not None:
                pass
            assert session.end_reason == "said goodbye: the node stops"
            await other.wait_peers(lambda peers: not peers.statuses())
        assert asyncio.all_tasks() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del nodes, one, other, session
        gc.collect()  # an open socket would complain


async def test_closing_ends_a_session_that_has_not_begun() -> None:
    """Accepted, and closed before its task had its first step."""
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(LARGER)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        stream = PeerStream(PeerId("early"), PROTOCOL, *await asyncio.open_connection(sock=ours))
        node.peers._accepted(stream)
        await node.peers.aclose()
        assert await reader.read() == b""
        writer.close()


async def test_a_mistake_in_one_session_is_logged_and_costs_only_it() -> None:
    class Mistaken:
        """A service that fails when it is asked for its models the first time."""

        serves, draining, asked = True, False, 0

        def refuses(self, model: str) -> None:
            raise AssertionError(model)

        def replicas(self) -> tuple[ReplicaLoad, ...]:
            self.asked += 1
            return (ReplicaLoad("m", slots=1 // (self.asked - 1)),)

        def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
            raise AssertionError(request)

    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        other = await nodes.join(LARGER)
        with capture_logs() as logs:
            peers = Peers(nodes.swarm.link(SMALLER, (PROTOCOL,)), Mistaken(), NodeRecord, "fake 1", QUICK)
            await other.wait_models("m")
        await peers.aclose()
        assert [line["kind"] for line in logs if line["event"] == "session_crashed"] == ["ZeroDivisionError"]


async def test_a_crash_of_a_task_is_logged() -> None:
    async def crash() -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(1)
        await node.peers.wait_changed()
        with capture_logs() as logs:
            task = node.peers.start(crash())
            await asyncio.wait({task})
            await asyncio.sleep(0)
        assert [line["event"] for line in logs] == ["swarm_task_crashed"]


async def test_a_link_that_tells_of_a_stranger_leaving_is_ignored() -> None:
    async with asyncio.timeout(TIMEOUT_S), Nodes() as nodes:
        node = await nodes.join(1)
        node.link.tell(Left(PeerId("nobody"), "left"))
        await node.peers.wait_changed()
        assert node.peers.statuses() == ()


def test_a_session_in_trouble_costs_less_and_less() -> None:
    timing = PeersTiming()
    assert list(timing.reopen_s) == sorted(timing.reopen_s)
    assert timing.reopen_s[0] <= 0.1
    assert timing.reopen_s[-1] >= 60
