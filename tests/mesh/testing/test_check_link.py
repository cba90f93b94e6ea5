"""The suite must fail when a promise is broken, or it proves nothing."""

from __future__ import annotations

import asyncio

import pytest

from localai.mesh.control import Joined, Left, RecordChanged
from localai.mesh.errors import Unavailable
from localai.mesh.ids import PeerId
from localai.mesh.link import Link, LinkEvent, LinkStatistics, PeerStream
from localai.mesh.testing import check_link as check_link_module
from localai.mesh.testing.check_link import PROTOCOL, check_link
from localai.mesh.testing.fake_link import FakeLink, FakeSwarm


class TellsNoRecords(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        if not isinstance(event, RecordChanged):
            super().tell(event)


class TellsTheFirstRecordOnly(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        if not isinstance(event, RecordChanged) or event.body == b"I am the first":
            super().tell(event)


class JoinsTwice(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        super().tell(event)
        if isinstance(event, Joined):
            super().tell(event)


class LeavesTwice(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        super().tell(event)
        if isinstance(event, Left):
            super().tell(event)


class TellsNoReason(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        super().tell(Left(event.peer, "connection lost") if isinstance(event, Left) else event)


class TellsNobodyLeft(FakeLink):
    def tell(self, event: LinkEvent) -> None:
        if not isinstance(event, Left):
            super().tell(event)


class CountsNoMembers(FakeLink):
    def statistics(self) -> LinkStatistics:
        return LinkStatistics(0, 0, (), (), (), (), {})


class OpensToAnybody(FakeLink):
    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        try:
            return await super().open(peer, protocol)
        except Unavailable:
            return PeerStream(peer, protocol, asyncio.StreamReader(), None)  # type: ignore[arg-type]  # never used


class LosesBytes(FakeLink):
    async def accept(self) -> PeerStream:
        stream = await super().accept()
        stream.reader.feed_data(b"?")
        return stream


class TakesAnyProtocol(FakeLink):
    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        return await super().open(peer, PROTOCOL)


class SaysItIsSomebodyElse(FakeLink):
    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        stream = await super().open(peer, protocol)
        return PeerStream(self.peer_id, protocol, stream.reader, stream.writer)


BROKEN: list[tuple[type[FakeLink], str | None]] = [
    (TellsNoRecords, "timed out waiting for the second's record"),
    (TellsTheFirstRecordOnly, "timed out waiting for"),
    (JoinsTwice, "joined twice"),
    (LeavesTwice, "left without having joined"),
    (TellsNoReason, "connection lost"),
    (TellsNobodyLeft, "timed out waiting for Left"),
    (CountsNoMembers, None),
    (OpensToAnybody, "no member"),
    (LosesBytes, None),
    (TakesAnyProtocol, None),
    (SaysItIsSomebodyElse, None),
]


@pytest.mark.parametrize(("kind", "complaint"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
async def test_a_broken_promise_is_seen(
    kind: type[FakeLink], complaint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_link_module, "TIMEOUT_S", 0.3)
    swarm = FakeSwarm()

    async def join(seed: int) -> Link:
        return swarm.link(seed, (PROTOCOL,), kind)

    with pytest.raises((AssertionError, TimeoutError), match=complaint):
        await check_link(join)
