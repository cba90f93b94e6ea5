"""Main of the mesh process: ``python -m localai.mesh.process <descriptor>`` (trio shell).

The descriptor is one end of a socketpair that carries the frames of ``control.py``. The first one configures the swarm;
the end of the socket ends the process. Whatever fails in here ends the process too: the node starts it again.
"""

from __future__ import annotations

import logging
import socket
import sys
from contextlib import suppress

import structlog
import trio

from localai.mesh.control import (
    CONTROL_VERSION,
    CannotStart,
    Configure,
    FromMesh,
    ToMesh,
    from_mesh_codec,
    to_mesh_codec,
)
from localai.mesh.errors import LocalAIError
from localai.mesh.logs import LogLevel, configure_logs
from localai.mesh.network_token import parse_network_token
from localai.mesh.secrets import Secret
from localai.mesh.wire import FrameDecoder

_LOG = structlog.get_logger()

MAX_UNSENT_FRAMES = 16_384
"""Frames waiting for the node. One that reads nothing for so long is stuck, and this process with it."""
_READ_BYTES = 65_536


class ControlSocket:
    """Frames with the node."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._decoder = FrameDecoder()
        self._codec = to_mesh_codec()
        self._outbox, self._inbox = trio.open_memory_channel[FromMesh](MAX_UNSENT_FRAMES)

    def emit(self, frame: FromMesh) -> None:
        """Queue a frame for the node."""
        self._outbox.send_nowait(frame)

    async def receive(self) -> list[ToMesh]:
        """The next frames; none when the node is gone."""
        with suppress(trio.BrokenResourceError):
            while data := await self._stream.receive_some(_READ_BYTES):
                if payloads := self._decoder.feed(data):
                    return [self._codec.decode(payload) for payload in payloads]
        return []

    async def write(self) -> None:
        """Send what is queued, until the node is gone."""
        codec = from_mesh_codec()
        with suppress(trio.BrokenResourceError):
            async for frame in self._inbox:
                await self._stream.send_all(codec.encode(frame))

    async def say(self, frame: FromMesh) -> None:
        """Send one frame directly, before or after ``write`` runs."""
        await self._stream.send_all(from_mesh_codec().encode(frame))


async def serve(stream: trio.SocketStream) -> int:
    """Be the mesh process behind this end of the control socket; get the exit code."""
    control = ControlSocket(stream)
    frames = await control.receive()
    if not frames:
        return 0
    configure, *later = frames
    if not isinstance(configure, Configure) or configure.version != CONTROL_VERSION:
        await control.say(CannotStart("The mesh process is of another version. Install this program again."))
        return 1
    try:
        configure_mesh_logs(configure)
        await _run(control, configure, later)
    except* LocalAIError as group:
        error = _first(group)
        _LOG.error("mesh_failed", error=error.message, detail=error.detail)
        await control.say(CannotStart(error.message, error.detail))
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the node is gone
    return 0


async def _run(control: ControlSocket, configure: Configure, later: list[ToMesh]) -> None:
    from localai.mesh.host import patches
    from localai.mesh.swarm import Swarm

    adopt_library_logs()
    patches.apply()
    swarm = Swarm(configure, control.emit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.write)
        nursery.start_soon(swarm.run)
        frames = later or await control.receive()
        while frames:
            for frame in frames:
                if not isinstance(frame, Configure):
                    swarm.take(frame)
            frames = await control.receive()
        await swarm.leave()
        nursery.cancel_scope.cancel()


def configure_mesh_logs(configure: Configure) -> None:
    """Log lines go to standard error, which the node reads; secrets never."""
    token = parse_network_token(configure.token)
    parts = (token.text, token.room, token.mdns, token.dht.key, token.crypto.key, token.rendezvous)
    level: LogLevel = "debug" if configure.log_level in ("debug", "trace") else "info"
    configure_logs(level, "text", secrets=[part for part in parts if part] + [Secret(configure.token)], colour=False)


def adopt_library_logs() -> None:
    """Lines of libp2p go the same way: when it is imported it takes them out, and so past the masking of secrets."""
    logger = logging.getLogger("libp2p")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _first(group: BaseExceptionGroup[LocalAIError]) -> LocalAIError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _main(descriptor: int) -> int:
    end = socket.socket(fileno=descriptor)
    end.setblocking(False)
    return await serve(trio.SocketStream(trio.socket.from_stdlib_socket(end)))


if __name__ == "__main__":
    sys.exit(trio.run(_main, int(sys.argv[-1])))
