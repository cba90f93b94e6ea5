"""What this node tells of its swarm."""

from __future__ import annotations

from typing import Any

from localai.mesh.ids import short_id
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.peers.peers import Peers
from localai.node.peers.record import ModelRecord, NodeRecord
from localai.node.peers.session_frames import PROTOCOL


async def test_a_node_alone_says_so(serve: Any) -> None:
    async with serve() as server:
        status, body = await server.get("/api/p2p/peers")
    assert status == 200
    assert (body["enabled"], body["peers"]) == (False, [])


async def test_peers_are_listed_with_what_they_offer(serve: Any) -> None:
    swarm = FakeSwarm()
    async with serve() as server, serve() as other:
        record = NodeRecord(program="test 1", models=(ModelRecord("m", "llama-cpp"),))
        peers = Peers(swarm.link(1, [PROTOCOL]), server.dispatch, server.dispatch.record, "test 1")
        server.dispatch.connect(peers)
        others = Peers(swarm.link(2, [PROTOCOL]), other.dispatch, lambda: record, "test 1")
        other.dispatch.connect(others)
        while not all(status.usable and status.record for status in peers.statuses()) or not peers.statuses():
            await peers.wait_changed()
        _, body = await server.get("/api/p2p/peers")
    assert body["enabled"] is True
    assert (body["node"], body["peer_id"]) == (short_id(peers.peer_id), peers.peer_id)
    (peer,) = body["peers"]
    assert peer["node"] == short_id(others.peer_id)
    assert (peer["connected"], peer["usable"], peer["serves"], peer["draining"]) == (True, True, True, False)
    assert (peer["models"], peer["program"], peer["in_flight"]) == (["m"], "test 1", 0)


async def test_it_needs_the_key(serve: Any) -> None:
    from localai.mesh.secrets import Secret

    async with serve(api_keys=(Secret("secret-key"),)) as server:
        status, _ = await server.get("/api/p2p/peers")
    assert status == 401
