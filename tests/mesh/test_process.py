"""The mesh process without a process: its main function behind a socketpair; the test is its node."""

from __future__ import annotations

import importlib
import logging
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import structlog
import trio

from localai.mesh.control import (
    CONTROL_VERSION,
    CannotStart,
    Configure,
    Expose,
    Exposed,
    FromMesh,
    Joined,
    KnownPeer,
    Left,
    Publish,
    Ready,
    RecordChanged,
    ToMesh,
    from_mesh_codec,
    to_mesh_codec,
)
from localai.mesh.identity import identity_from_private_key
from localai.mesh.network_token import ALPHABET, new_network_token
from localai.mesh.process import adopt_library_logs, configure_mesh_logs, serve
from localai.mesh.wire import FrameDecoder

TOKEN = new_network_token(lambda size: "".join(random.Random(size).choices(ALPHABET, k=size)))
CONFIGURE = Configure(
    version=CONTROL_VERSION,
    private_key=bytes([1]) * 32,
    token=TOKEN.text.reveal(),
    network_id="",
    listen=("/ip4/127.0.0.1/tcp/0",),
    protocols=("/test/process/1",),
    inbound_path="/nowhere",
    folder="/nowhere",
    mdns=False,
)


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def _logs_restored() -> Iterator[None]:
    root, library = logging.getLogger(), logging.getLogger("libp2p")
    handlers, level, propagate, library_level = list(root.handlers), root.level, library.propagate, library.level
    yield
    library.propagate = propagate
    library.setLevel(library_level)
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


class NodeSide:
    """The node's end of the control socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._frames: list[FromMesh] = []
        self.exit_code: int | None = None
        self.ended = trio.Event()

    async def send(self, *frames: ToMesh) -> None:
        await self.stream.send_all(b"".join(map(to_mesh_codec().encode, frames)))

    async def receive(self, *kinds: type[FromMesh]) -> FromMesh:
        """The next frame of these kinds."""
        with trio.fail_after(15):
            while True:
                for frame in self._frames:
                    if isinstance(frame, kinds):
                        self._frames.remove(frame)
                        return frame
                data = await self.stream.receive_some(65_536)
                assert data, "it ended"
                self._frames += map(from_mesh_codec().decode, self._decoder.feed(data))

    async def wait_ended(self) -> int | None:
        with trio.fail_after(15):
            await self.ended.wait()
        return self.exit_code


@asynccontextmanager
async def mesh_process() -> AsyncIterator[NodeSide]:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    async with trio.open_nursery() as nursery, ours:
        node = NodeSide(ours)

        async def run() -> None:
            async with theirs:
                node.exit_code = await serve(theirs)
            node.ended.set()

        nursery.start_soon(run)
        yield node
        nursery.cancel_scope.cancel()


def changed(**changes: object) -> Configure:
    return msgspec.structs.replace(CONFIGURE, **changes)


async def test_it_starts_works_and_ends_with_its_socket() -> None:
    async with mesh_process() as one, mesh_process() as other:
        await one.send(CONFIGURE, Publish(b"hello"))
        ready = await one.receive(Ready)
        assert isinstance(ready, Ready)
        assert ready.peer == identity_from_private_key(CONFIGURE.private_key).peer_id
        assert ready.warnings == ()
        with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
            known = (KnownPeer(ready.peer, ready.addresses),)
            await other.send(changed(private_key=bytes([2]) * 32, known=known, folder=folder))
            assert isinstance(await other.receive(Joined), Joined)
            assert await other.receive(RecordChanged) == RecordChanged(ready.peer, b"hello")
            await other.send(CONFIGURE, Expose(ready.peer, "/test/process/1"))  # a second Configure changes nothing
            exposed = await other.receive(Exposed)
            assert isinstance(exposed, Exposed)
            assert Path(exposed.path).is_socket()
            await one.stream.send_eof()
            assert await other.receive(Left) == Left(ready.peer, "left: the node stops")
            assert await one.wait_ended() == 0
        port = int(ready.listen[0].split("/")[4])
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_node_that_dies_ends_it() -> None:
    async with mesh_process() as node:
        await node.send(CONFIGURE)
        await trio.lowlevel.wait_readable(node.stream.socket)  # what it says is never read: a reset
        await node.stream.aclose()
        assert await node.wait_ended() == 0


async def test_a_node_that_says_nothing_ends_it() -> None:
    async with mesh_process() as node:
        await node.stream.send_eof()
        assert await node.wait_ended() == 0


@pytest.mark.parametrize("frame", [Publish(b"first"), changed(version=CONTROL_VERSION + 1)], ids=["order", "version"])
async def test_a_node_of_another_version_is_told(frame: ToMesh) -> None:
    async with mesh_process() as node:
        await node.send(frame)
        told = await node.receive(CannotStart)
        assert isinstance(told, CannotStart)
        assert "another version" in told.message
        assert await node.wait_ended() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listen": ("/ip4/192.0.2.1/tcp/4001",)}, "cannot listen on /ip4/192.0.2.1/tcp/4001"),
        ({"listen": ("nonsense",)}, '"nonsense": it is not an address'),
        ({"bootstrap": ("/ip4/192.0.2.1/tcp/4001",)}, "does not end in /p2p/"),
        ({"token": TOKEN.text.reveal()[:-3]}, "network token is cut off"),
    ],
    ids=["not ours", "no address", "bootstrap", "token"],
)
async def test_settings_that_cannot_work_are_told_in_a_sentence(changes: dict[str, object], message: str) -> None:
    async with mesh_process() as node:
        await node.send(changed(**changes))
        told = await node.receive(CannotStart)
        assert isinstance(told, CannotStart)
        assert message in told.message
        assert told.message.endswith(".")
        assert TOKEN.text.reveal()[:20] not in told.message + told.detail
        assert await node.wait_ended() == 0


async def test_garbage_from_the_node_ends_it() -> None:
    async with mesh_process() as node:
        await node.send(CONFIGURE)
        await node.receive(Ready)
        await node.stream.send_all(b"\x00\x00\x00\x02hi")
        told = await node.receive(CannotStart)
        assert isinstance(told, CannotStart)
        assert "could not be decoded" in told.message
        assert await node.wait_ended() == 0


def test_no_part_of_the_token_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_mesh_logs(changed(log_level="debug"))
    importlib.import_module("libp2p")
    adopt_library_logs()
    secrets = [
        TOKEN.text.reveal(),
        TOKEN.room.reveal(),
        TOKEN.mdns.reveal(),
        TOKEN.rendezvous.reveal(),
        TOKEN.dht.key.reveal(),
        TOKEN.crypto.key.reveal(),
    ]
    structlog.get_logger().debug("test_line", values=secrets, text=f"in {secrets[0]} between", configure=CONFIGURE)
    logging.getLogger("libp2p.test").warning("room %s", secrets[1])
    shown = capsys.readouterr().err
    assert "test_line" in shown
    assert "room ***" in shown
    for secret in secrets:
        assert secret not in shown


def test_debug_lines_are_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_mesh_logs(CONFIGURE)
    structlog.get_logger().debug("hidden_line")
    configure_mesh_logs(changed(log_level="trace"))
    structlog.get_logger().debug("shown_line")
    shown = capsys.readouterr().err
    assert "shown_line" in shown
    assert "hidden_line" not in shown
