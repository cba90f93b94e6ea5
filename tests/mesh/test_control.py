from __future__ import annotations

import msgspec
import pytest

from localai.mesh.control import (
    CONTROL_VERSION,
    CannotStart,
    Configure,
    Counted,
    Dial,
    Expose,
    Exposed,
    FromMesh,
    Inbound,
    Joined,
    KnownPeer,
    Left,
    Publish,
    Ready,
    RecordChanged,
    RecordExpired,
    ToMesh,
    from_mesh_codec,
    inbound_codec,
    to_mesh_codec,
)
from localai.mesh.errors import WireError
from localai.mesh.ids import PeerId
from localai.mesh.wire import FrameDecoder

PEER = PeerId("12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq")
CONFIGURE = Configure(
    version=CONTROL_VERSION,
    private_key=b"the private key of this node 32b",
    token="b3RwOiBzZWNyZXQ=",
    network_id="home",
    listen=("/ip4/127.0.0.1/tcp/0",),
    protocols=("/localai/session/1",),
    inbound_path="/run/in",
    folder="/run/o",
    known=(KnownPeer(PEER, ("/ip4/192.0.2.1/tcp/1",), given=True),),
)
TO_MESH: tuple[ToMesh, ...] = (
    CONFIGURE,
    Publish(b"\x00body"),
    Dial(KnownPeer(PEER, ("/ip4/192.0.2.1/tcp/1",))),
    Expose(PEER, "/localai/session/1"),
)
FROM_MESH: tuple[FromMesh, ...] = (
    Ready(PEER, ("/ip4/127.0.0.1/tcp/4001",), ("/ip4/192.0.2.1/tcp/4001",), ("no mDNS",)),
    CannotStart("Give another address.", "OSError"),
    Joined(PEER, ("/ip4/192.0.2.1/tcp/1",)),
    Left(PEER, "connection lost"),
    RecordChanged(PEER, b"\x00body"),
    RecordExpired(PEER),
    Exposed(PEER, "/localai/session/1", "/run/o/0"),
    Counted({"strangers_refused": 1}),
)


def test_every_frame_to_the_mesh_process_arrives_as_it_was() -> None:
    codec, decoder = to_mesh_codec(), FrameDecoder()
    sent = b"".join(map(codec.encode, TO_MESH))
    assert [codec.decode(payload) for payload in decoder.feed(sent)] == list(TO_MESH)


def test_every_frame_from_the_mesh_process_arrives_as_it_was() -> None:
    codec, decoder = from_mesh_codec(), FrameDecoder()
    sent = b"".join(map(codec.encode, FROM_MESH))
    assert [codec.decode(payload) for payload in decoder.feed(sent)] == list(FROM_MESH)


def test_the_preamble_of_a_stream_arrives_as_it_was() -> None:
    codec = inbound_codec()
    frame = Inbound(PEER, "/localai/session/1")
    (payload,) = FrameDecoder().feed(codec.encode(frame))
    assert codec.decode(payload) == frame
    assert len(payload) < 4096


def test_directions_do_not_mix() -> None:
    for frame in FROM_MESH:
        with pytest.raises(WireError):
            to_mesh_codec().decode(from_mesh_codec().encode(frame)[4:])
    for other in TO_MESH:
        with pytest.raises(WireError):
            from_mesh_codec().decode(to_mesh_codec().encode(other)[4:])


def test_a_later_version_may_add_fields() -> None:
    payload = msgspec.msgpack.encode(["left", PEER, "connection lost", {"more": 1}])
    assert from_mesh_codec().decode(payload) == Left(PEER, "connection lost")


def test_no_secret_shows_when_a_configuration_is_logged() -> None:
    shown = repr(CONFIGURE)
    assert "home" in shown
    for secret in (CONFIGURE.token, CONFIGURE.private_key.decode()):
        assert secret not in shown
