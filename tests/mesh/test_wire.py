from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import WireError
from localai.mesh.wire import MAX_FRAME_BYTES, FrameCodec, FrameDecoder


class Text(msgspec.Struct, frozen=True, array_like=True, tag="text"):
    text: str


class Number(msgspec.Struct, frozen=True, array_like=True, tag="number"):
    number: int


CODEC: FrameCodec[Text | Number] = FrameCodec(Text | Number)


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_any_split_of_the_bytes_gives_the_same_payloads(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(framed(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = FrameDecoder()
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == payloads
    assert decoder.buffered_bytes == 0


@given(st.binary(max_size=300))
def test_random_bytes_only_raise_wire_errors_and_stay_bounded(data: bytes) -> None:
    decoder = FrameDecoder(max_frame_bytes=64)
    try:
        for payload in decoder.feed(data):
            assert len(payload) <= 64
            CODEC.decode(payload)
    except WireError:
        return
    assert decoder.buffered_bytes <= 64 + 4


def test_a_length_over_the_limit_is_refused_before_its_payload_arrives() -> None:
    with pytest.raises(WireError, match="over the limit"):
        FrameDecoder(max_frame_bytes=10).feed((11).to_bytes(4, "big"))


@given(st.one_of(st.builds(Text, st.text()), st.builds(Number, st.integers(-(2**63), 2**63))))
def test_what_is_encoded_decodes_to_the_same(frame: Text | Number) -> None:
    (payload,) = FrameDecoder().feed(CODEC.encode(frame))
    assert CODEC.decode(payload) == frame


def test_a_frame_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(WireError, match="over the limit"):
        CODEC.encode(Text("x" * MAX_FRAME_BYTES))


@pytest.mark.parametrize("frame", [Number(2**64), Text("\ud800")])
def test_what_msgpack_cannot_carry_is_a_wire_error(frame: Text | Number) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        CODEC.encode(frame)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["unknown", 1]),
        msgspec.msgpack.encode({"text": 1}),
        msgspec.msgpack.encode(["text", 5]),
        b"\x91" * 100_000,
        b"\x92\xa4text" + b"\x91" * 100_000,
        b"\x92\xa4text\xa2\xff\xfe",
    ],
    ids=["empty", "reserved", "tag", "shape", "type", "deep", "deep-inside", "not-utf8"],
)
def test_what_is_not_a_frame_is_a_wire_error(payload: bytes) -> None:
    with pytest.raises(WireError):
        CODEC.decode(payload)
