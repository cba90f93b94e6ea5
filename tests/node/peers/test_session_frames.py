"""The wire of a session. The vectors are in docs/wire.md too: if one changes, nodes of two versions part ways."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category, WireError
from localai.mesh.wire import FrameDecoder
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    Prompt,
    RequestId,
    RerankRequest,
    Sampling,
    Scored,
    Started,
    TextInput,
    Timings,
    TokenInput,
    Tokenized,
    TokenizeRequest,
    TokenLogprob,
    Tokens,
    Usage,
)
from localai.node.peers.session_frames import (
    HEARTBEAT_S,
    PROTOCOL,
    SILENCE_S,
    Goodbye,
    SessionFrame,
    SessionHeartbeat,
    SessionHello,
    can_speak,
    session_codec,
)
from localai.node.routing.replica import ReplicaLoad
from localai.node.workers.frames import Ask, Cancel, Events

FIRST, SECOND = RequestId("1"), RequestId("2")
GREEDY = Sampling(temperature=0.0, seed=7)


def question(prompt: Prompt) -> Ask:
    return Ask(GenerateRequest(SECOND, "m", prompt))


VECTORS: dict[str, tuple[SessionFrame, str]] = {
    "SessionHello": (
        SessionHello(1, 1, True, "localai-mesh 0.1.0"),
        "0000002595ad73657373696f6e5f68656c6c6f0101c3b26c6f63616c61692d6d65736820302e312e30",
    ),
    "SessionHeartbeat": (
        SessionHeartbeat(3, 2, 0.25, False, (ReplicaLoad("m", 4096, 4, 2, 1, True, False, 1.5, 300.0, 30.0),)),
        "0000004696b173657373696f6e5f6865617274626561740302cb3fd0000000000000c2919aa16dcd1000040201c3c2"
        "cb3ff8000000000000cb4072c00000000000cb403e000000000000",
    ),
    "Ask, chat": (
        Ask(GenerateRequest(FIRST, "m", ChatInput((ChatMessage("user", "Hi"),)), GREEDY, 5, ("x",))),
        "0000008192a361736bdc0010a867656e6572617465a131a16d97a4636861749197a475736572a24869a0a090a09090a46175"
        "746fa0c3a098cb0000000000000000cb3fee66666666666628cb0000000000000000cb3ff0000000000000cb000000000000"
        "0000cb0000000000000000070591a17801c2a0cb3ff0000000000000c0c2c0c090",
    ),
    "Ask, text": (
        question(TextInput("Hi")),
        "0000006a92a361736bdc0010a867656e6572617465a132a16d92a474657874a2486998cb3feccccccccccccdcb3fee666666"
        "66666628cb0000000000000000cb3ff0000000000000cb0000000000000000cb0000000000000000c0c09001c2a0cb3ff000"
        "0000000000c0c2c0c090",
    ),
    "Ask, tokens": (
        question(TokenInput((1, 300))),
        "0000006e92a361736bdc0010a867656e6572617465a132a16d92a6746f6b656e739201cd012c98cb3feccccccccccccdcb3f"
        "ee66666666666628cb0000000000000000cb3ff0000000000000cb0000000000000000cb0000000000000000c0c09001c2a0"
        "cb3ff0000000000000c0c2c0c090",
    ),
    "Ask, embed": (
        Ask(EmbedRequest(SECOND, "m", (TextInput("Hi"),), 8)),
        "0000002792a361736b99a5656d626564a132a16d9192a474657874a2486908a0cb3ff0000000000000c0c2",
    ),
    "Ask, rerank": (
        Ask(RerankRequest(SECOND, "m", "q", ("a", "b"))),
        "0000002492a361736b99a6726572616e6ba132a16da17192a161a162a0cb3ff0000000000000c0c2",
    ),
    "Ask, tokenize": (
        Ask(TokenizeRequest(SECOND, "m", "Hi")),
        "0000002392a361736b99a8746f6b656e697a65a132a16da24869a0cb3ff0000000000000c0c2c0",
    ),
    "Ask, detokenize": (
        Ask(DetokenizeRequest(SECOND, "m", (1, 300))),
        "0000002692a361736b98aa6465746f6b656e697a65a132a16d9201cd012ca0cb3ff0000000000000c0c2",
    ),
    "Cancel": (Cancel(FIRST), "0000000a92a663616e63656ca131"),
    "Events": (
        Events(
            (
                (FIRST, Progress("queued", 1, 1)),
                (FIRST, Started("00", 3, 1, "t")),
                (FIRST, Tokens(0, (104, 105), b"hi")),
                (FIRST, Finished(("stop",), Usage(3, 2, 1), Timings(0.5, 1.0, 2.0))),
                (SECOND, Failed(Category.UNAVAILABLE, "peer_lost", "Lost.", None, 1.0)),
            )
        ),
        "000000b092a66576656e74739592a13194a870726f6772657373a6717565756564010192a13196a773746172746564a23030"
        "0301a174a5706c61696e92a13195a6746f6b656e7300926869c40268699092a13194a866696e697368656491a473746f7093"
        "03020193cb3fe0000000000000cb3ff0000000000000cb400000000000000092a13296a66661696c6564ab756e617661696c"
        "61626c65a9706565725f6c6f7374a54c6f73742ec0cb3ff0000000000000",
    ),
    "Events, others": (
        Events(
            (
                (FIRST, Embedded(0, b"\x00\x00\x80\x3f")),
                (FIRST, Scored((0.5,))),
                (FIRST, Tokenized((1, 300))),
                (FIRST, Detokenized(b"Hi")),
                (SECOND, Tokens(0, (1,), b"a", (TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5),)),))),
            )
        ),
        "0000008892a66576656e74739592a13193a8656d62656464656400c4040000803f92a13192a673636f72656491cb3fe00000"
        "0000000092a13192a9746f6b656e697a65649201cd012c92a13192ab6465746f6b656e697a6564c402486992a13295a6746f"
        "6b656e73009101c40161919401c40161cbbfe0000000000000919301c40161cbbfe0000000000000",
    ),
    "Goodbye": (Goodbye("the node stops"), "0000001892a7676f6f64627965ae746865206e6f64652073746f7073"),
}


def decode(payload: bytes) -> SessionFrame:
    return session_codec().decode(payload)


def changed(name: str, change: Any) -> SessionFrame:
    """A vector's frame after a change of its array."""
    parts = msgspec.msgpack.decode(bytes.fromhex(VECTORS[name][1])[4:])
    change(parts)
    return decode(msgspec.msgpack.encode(parts))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    frame, text = VECTORS[name]
    assert session_codec().encode(frame).hex() == text
    (payload,) = FrameDecoder().feed(bytes.fromhex(text))
    assert decode(payload) == frame


def test_every_kind_of_frame_has_a_vector() -> None:
    kinds = set(get_args(SessionFrame))
    assert {type(frame) for frame, _ in VECTORS.values()} == kinds


@pytest.mark.parametrize("name", VECTORS)
def test_a_newer_node_may_append_fields(name: str) -> None:
    assert changed(name, lambda parts: parts.append({"new": [1, 2]})) == VECTORS[name][0]


def test_fields_may_be_appended_inside_too() -> None:
    beat = changed("SessionHeartbeat", lambda parts: parts[5][0].append("new"))
    assert beat == VECTORS["SessionHeartbeat"][0]
    question = changed("Ask, chat", lambda parts: parts[1].append("new"))
    assert question == VECTORS["Ask, chat"][0]


def test_an_older_node_may_say_less() -> None:
    assert changed("SessionHello", lambda parts: parts.pop()) == SessionHello(1, 1, True)

    def only_the_name(parts: Any) -> None:
        del parts[5][0][1:]

    beat = changed("SessionHeartbeat", only_the_name)
    assert beat == SessionHeartbeat(3, 2, 0.25, False, (ReplicaLoad("m"),))

    def only_the_prompt(parts: Any) -> None:
        del parts[1][4:]

    assert changed("Ask, text", only_the_prompt) == question(TextInput("Hi"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        msgspec.msgpack.encode(["unknown", 1]),
        msgspec.msgpack.encode(["session_hello", "1", 1, True]),
        msgspec.msgpack.encode(["session_heartbeat", 1, 0, 0.0, False]),
        msgspec.msgpack.encode(["events", [["1", ["failed", "new category", "code", "message"]]]]),
        b"\x91" * 100_000,
    ],
)
def test_what_is_no_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode(payload)


@given(st.binary(max_size=200))
def test_random_bytes_are_frames_or_wire_errors(payload: bytes) -> None:
    try:
        decode(payload)
    except WireError:
        return


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((1, 1), (1, 1), True),
        ((1, 1), (3, 1), True),
        ((1, 1), (3, 2), False),
        ((3, 2), (1, 1), False),
        ((3, 2), (2, 1), True),
    ],
)
def test_versions_in_common(ours: tuple[int, int], theirs: tuple[int, int], expected: bool) -> None:
    mine, other = SessionHello(*ours, serves=True), SessionHello(*theirs, serves=True)
    assert can_speak(mine, other) is can_speak(other, mine) is expected


def test_the_protocol_and_its_patience() -> None:
    assert PROTOCOL == "/localai/session/1"
    assert SILENCE_S >= 3 * HEARTBEAT_S
