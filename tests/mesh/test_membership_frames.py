from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import WireError
from localai.mesh.membership_frames import (
    GREETING_TIMEOUT_S,
    MAX_MEMBERSHIP_FRAME_BYTES,
    MEMBERSHIP_VERSION,
    PING_S,
    SILENCE_S,
    Greeting,
    Leaving,
    MembershipFrame,
    Ping,
    Pong,
    Record,
    membership_codec,
)
from localai.mesh.membership_proof import PROOF_BYTES
from localai.mesh.records import MAX_RECORD_BYTES
from localai.mesh.wire import FrameDecoder

FRAMES = st.one_of(
    st.builds(Greeting, st.integers(0, 1 << 32), st.binary(max_size=64), st.lists(st.text(max_size=40)).map(tuple)),
    st.builds(Record, st.binary(max_size=2000)),
    st.builds(Ping, st.integers(0, 1 << 62)),
    st.builds(Pong, st.integers(0, 1 << 62)),
    st.builds(Leaving, st.text(max_size=40)),
)


@settings(max_examples=40)
@given(st.lists(FRAMES, max_size=8), st.integers(1, 200))
def test_frames_arrive_as_they_were_however_they_are_cut(frames: list[MembershipFrame], piece: int) -> None:
    codec, decoder = membership_codec(), FrameDecoder(MAX_MEMBERSHIP_FRAME_BYTES)
    sent = b"".join(map(codec.encode, frames))
    payloads = [
        payload for start in range(0, len(sent), piece) for payload in decoder.feed(sent[start : start + piece])
    ]
    assert [codec.decode(payload) for payload in payloads] == frames


@given(st.binary(max_size=200))
def test_nonsense_is_a_wire_error(payload: bytes) -> None:
    try:
        membership_codec().decode(payload)
    except WireError:
        return


def test_the_bytes_of_each_frame() -> None:
    """The wire is what other versions of this program hold us to."""
    values: list[tuple[MembershipFrame, list[object]]] = [
        (Greeting(1, b"p", ("a",)), ["greeting", 1, b"p", ["a"]]),
        (Record(b"s"), ["record", b"s"]),
        (Ping(3), ["ping", 3]),
        (Pong(3), ["pong", 3]),
        (Leaving("bye"), ["leaving", "bye"]),
    ]
    for frame, value in values:
        assert membership_codec().encode(frame)[4:] == msgspec.msgpack.encode(value)


def test_short_and_long_forms_of_other_versions_are_read() -> None:
    codec = membership_codec()
    assert codec.decode(msgspec.msgpack.encode(["greeting", 9, b"p"])) == Greeting(9, b"p")
    assert codec.decode(msgspec.msgpack.encode(["leaving"])) == Leaving()
    assert codec.decode(msgspec.msgpack.encode(["ping", 1, "more"])) == Ping(1)


def test_a_whole_record_fits_and_more_does_not() -> None:
    codec = membership_codec()
    assert codec.encode(Record(bytes(MAX_RECORD_BYTES)))
    with pytest.raises(WireError, match="over the limit"):
        codec.encode(Record(bytes(MAX_MEMBERSHIP_FRAME_BYTES)))
    assert codec.encode(Greeting(MEMBERSHIP_VERSION, bytes(PROOF_BYTES), ("a" * 200,) * 16))


def test_times_fit_together() -> None:
    assert SILENCE_S > 3 * PING_S
    assert GREETING_TIMEOUT_S > PING_S
