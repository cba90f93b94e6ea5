"""Repairs of libp2p 0.8.1, applied to that exact version and to no other (shell).

They replace private methods. Each cures something that was seen to hang a connection, kill a stream, or double the
cost of small messages; docs/decisions/0002-libp2p.md has the measurements. Without them everything still works, more
slowly and with the dangers named there; tests run both ways.
"""

from __future__ import annotations

import struct
from importlib.metadata import version
from typing import Any

import structlog
import trio
from libp2p.io import trio as tcp
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

_LOG = structlog.get_logger()

PATCHED_VERSION = "0.8.1"
WINDOW_BYTES = 256 << 10
"""What a stalled stream may hold: yamux's initial window."""
TCP_READ_BYTES = 128 << 10
SEND_STALL_S = 10.0
"""A TCP send that takes longer means a dead path: the connection is closed."""
_HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)
_MAX_PAYLOAD = 65_519 - _HEADER.size
"""A yamux frame that fits into one noise message."""
_STOCK_SWEEP = yamux.Yamux._sweep_stale_streams


class _WindowExceeded(trio.TooSlowError):
    """A peer sent more than it may. Of this class, because yamux's reading loop ends a connection for no other one."""


def apply() -> bool:
    """Repair the installed libp2p; False, with a warning in the log, when it is another version."""
    installed = version("libp2p")
    if installed != PATCHED_VERSION:
        _LOG.warning("libp2p_not_patched", installed=installed, known=PATCHED_VERSION)
        return False
    tcp.TrioTCPStream.read = _buffered_read
    tcp.TrioTCPStream.write = _shielded_write
    yamux.YamuxStream._auto_tune_and_send_window_update = _credit_what_was_read
    yamux.YamuxStream.write = _write_without_polling
    yamux.YamuxStream.send_window = property(_send_window, _set_send_window)
    yamux.YamuxStream.recv_window = property(_recv_window, _set_recv_window)
    yamux.MAX_WINDOW_SIZE = WINDOW_BYTES  # of one frame that is believed; ours never grows beyond
    yamux.Yamux._write_frame = _write_frame
    yamux.Yamux._sweep_stale_streams = _sweep_all
    return True


async def _buffered_read(self: Any, n: int | None = None) -> bytes:
    """One system call for a burst, where stock code makes two for each noise message."""
    if n == 0:
        return b""
    async with self.read_lock:
        rest = self.__dict__.get("_rest", b"")
        if not rest:
            try:
                rest = await self.stream.receive_some(TCP_READ_BYTES)
            except trio.BrokenResourceError as error:
                raise ConnectionClosedError(f"TCP connection reset: {error}", transport="tcp") from error
            except trio.ClosedResourceError:
                return b""
        if n is None or n >= len(rest):
            self._rest = b""
            return bytes(rest)
        self._rest = memoryview(rest)[n:]
        return bytes(rest[:n])


async def _shielded_write(self: Any, data: bytes) -> None:
    """A task cancelled inside a TCP send would cut a noise message in two; every later stream then hangs."""
    async with self.write_lock:
        try:
            with trio.CancelScope(shield=True), trio.move_on_after(SEND_STALL_S) as scope:
                await self.stream.send_all(data)
            if scope.cancelled_caught:
                await trio.aclose_forcefully(self.stream)
                raise ConnectionClosedError("TCP send stalled; connection closed", transport="tcp")
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(f"TCP connection reset: {error}", transport="tcp") from error
        except trio.ClosedResourceError as error:
            # Stock code returns as if the bytes were sent.
            raise ConnectionClosedError("TCP connection is closed", transport="tcp") from error


async def _credit_what_was_read(self: Any, *, bytes_read: int = 0) -> None:
    """Give back exactly what was read, half a window at a time; stock code sends an update for nearly every read."""
    if bytes_read <= 0:
        return
    self._pending_recv_release += bytes_read
    if self._pending_recv_release >= WINDOW_BYTES // 2:
        credit, self._pending_recv_release = self._pending_recv_release, 0
        self.recv_window += credit
        await self.send_window_update(credit)


async def _write_frame(self: Any, data: bytes) -> None:
    """Shielded as a whole: noise counts a message before TCP has taken it, and must not count one that is not sent."""
    async with self._write_lock:
        with trio.CancelScope(shield=True):
            await self.secured_conn.write(data)


async def _write_without_polling(self: Any, data: bytes) -> None:
    """Stock code polls a closed window every 10 ms and kills the stream after 5 s; here the writer just waits.

    One writer at a time: stock code mixes the pieces of two writes, as gossip's, when they need more than one frame.
    """
    view = memoryview(data)
    sent = 0
    async with self.__dict__.setdefault("_writing", trio.Lock()):
        while sent < len(view):
            if self.send_closed or self.closed:
                raise MuxedStreamError("Stream is closed")
            window = self.send_window
            if window <= 0:
                await _wait_for_window(self)
                continue
            size = min(window, _MAX_PAYLOAD, len(view) - sent)
            self.send_window -= size
            header = _HEADER.pack(0, yamux.TYPE_DATA, 0, self.stream_id, size)
            await self.conn._write_frame(header + view[sent : sent + size])
            sent += size


async def _wait_for_window(self: Any) -> None:
    event = self.__dict__.get("_window_opened")
    if event is None or event.is_set():
        event = self._window_opened = trio.Event()
    with trio.move_on_after(0.25):  # closing and resetting do not set it
        await event.wait()


def _send_window(self: Any) -> int:
    window: int = self.__dict__.get("_send_window", 0)
    return window


def _set_send_window(self: Any, value: int) -> None:
    self.__dict__["_send_window"] = value
    event = self.__dict__.get("_window_opened")
    if value > 0 and event is not None:
        event.set()


def _recv_window(self: Any) -> int:
    window: int = self.__dict__.get("_recv_window", 0)
    return window


def _set_recv_window(self: Any, value: int) -> None:
    """Stock code warns and keeps what a peer sends beyond its window: whoever can connect could fill the memory."""
    if value < 0:
        raise _WindowExceeded(f"stream {self.stream_id} is {-value} bytes over its window")
    self.__dict__["_recv_window"] = value


def _sweep_all(self: Any, now: float | None = None) -> int:
    """A reader that was woken by the end of its stream leaves an event behind, which stock code never looks at."""
    swept: int = _STOCK_SWEEP(self, now)
    for stream_id in [stream_id for stream_id in self.stream_events if stream_id not in self.streams]:
        del self.stream_events[stream_id]
    return swept
