"""Length-prefixed msgpack frames: the one framing of worker pipes, the mesh control socket and peer sessions (pure).

Layout of one frame: 4 bytes big-endian payload length, then the payload, one msgpack value.
A payload is at most :data:`MAX_FRAME_BYTES`; a longer length is refused before anything is buffered.
Typed decoding rejects what an untyped unpack would inflate (16 MB of empty maps become 1.2 GB).
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from localai.mesh.errors import WireError

MAX_FRAME_BYTES = 1 << 20
"""Bytes in one payload. Bounds what a peer can make us buffer; a prompt above it is refused by its sender."""

_HEADER_BYTES = 4
T = TypeVar("T")


class FrameDecoder:
    """Cuts a byte stream into payloads, however the bytes were split on their way."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; get the payloads they complete, in order.

        Raises:
            WireError: a frame announces more than the limit. The decoder must not be used again.
        """
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= _HEADER_BYTES:
            length = int.from_bytes(buffer[start : start + _HEADER_BYTES], "big")
            if length > self._max_frame_bytes:
                raise WireError(f"A frame of {length} bytes is over the limit of {self._max_frame_bytes} bytes.")
            end = start + _HEADER_BYTES + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + _HEADER_BYTES : end]))
            start = end
        del buffer[:start]
        return payloads


class FrameCodec(Generic[T]):
    """Frames of one closed union of tagged structs, both ways."""

    def __init__(self, frame_type: object, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(frame_type)
        self._encoder = msgspec.msgpack.Encoder()
        self._max_frame_bytes = max_frame_bytes

    def encode(self, frame: T) -> bytes:
        """Header and payload of one frame.

        Raises:
            WireError: the payload is over the limit, or holds a number or text that msgpack cannot carry.
        """
        try:
            payload = self._encoder.encode(frame)
        except (OverflowError, UnicodeEncodeError) as error:
            raise WireError("A frame holds a value that cannot be sent.", detail=repr(error)[:300]) from error
        if len(payload) > self._max_frame_bytes:
            raise WireError(f"A frame of {len(payload)} bytes is over the limit of {self._max_frame_bytes} bytes.")
        return len(payload).to_bytes(_HEADER_BYTES, "big") + payload

    def decode(self, payload: bytes) -> T:
        """One frame from its payload.

        Raises:
            WireError: not msgpack, not one of our frames, or nested too deeply.
        """
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise WireError("A frame could not be decoded.", detail=repr(error)[:300]) from error
