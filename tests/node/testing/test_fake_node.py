from __future__ import annotations

import asyncio

from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.inference import Finished, GenerateRequest, RequestId, TextInput
from localai.node.testing.fake_node import fake_node


async def test_nodes_of_one_swarm_answer_for_each_other() -> None:
    swarm = FakeSwarm()
    async with asyncio.timeout(15), fake_node(swarm, 1) as entry, fake_node(swarm, 2, ["m"]) as serving:
        await entry.wait_models("m")
        assert set(swarm.links) == {entry.peer_id, serving.peer_id}
        request = GenerateRequest(RequestId("a"), "m", TextInput("hello"))
        events = [event async for batch in entry.dispatch.answer_batches(request) for event in batch]
        assert isinstance(events[-1], Finished)
        assert (len(entry.workers), len(serving.workers)) == (0, 1)
    assert swarm.links == {}
