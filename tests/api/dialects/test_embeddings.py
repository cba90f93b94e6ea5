from __future__ import annotations

import base64
import json
from array import array
from typing import Any

import msgspec
import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.embeddings import parse_embedding, render_embeddings
from localai.api.schemas.openai_requests import EmbeddingBody
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported, UpstreamFailed
from localai.node.inference import (
    MAX_INPUTS,
    ChatInput,
    ChatMessage,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    Progress,
    RequestId,
    TextInput,
    TokenInput,
    Tokens,
    Usage,
)

MESSAGES = [{"role": "user", "content": "hi"}]


def parse(**fields: Any) -> EmbedRequest:
    return parse_embedding(decode_body(json.dumps(fields).encode(), EmbeddingBody), RequestId("r"), "m")


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", (TextInput("a"),)),
        (["a", "b"], (TextInput("a"), TextInput("b"))),
        ([1, 2], (TokenInput((1, 2)),)),
        ([[1], [2, 3]], (TokenInput((1,)), TokenInput((2, 3)))),
        (["a", [1], ["b", "c"], "d"], (TextInput("a"), TokenInput((1,)), *map(TextInput, "bcd"))),
    ],
)
def test_every_form_of_input_in_its_order(given: Any, inputs: tuple[Any, ...]) -> None:
    assert parse(input=given) == EmbedRequest(RequestId("r"), "m", inputs)


def test_a_conversation_and_other_fields() -> None:
    assert parse(messages=MESSAGES).inputs == (ChatInput((ChatMessage("user", "hi"),)),)
    asked = {
        "input": "a",
        "encoding_format": "base64",
        "user": "u",
        "pooling": "backend",
        "pooling_half_life_tokens": 0,
    }
    assert parse(**asked, dimensions=4).dimensions == 4
    body = decode_body(b'{"input": "a"}', EmbeddingBody)
    assert parse_embedding(body, RequestId("r"), "m", local_only=True).local_only


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({}, InvalidRequest, "input"),
        ({"input": []}, InvalidRequest, "input"),
        ({"input": ""}, InvalidRequest, "input"),
        ({"input": ["a", ""]}, InvalidRequest, "input[1]"),
        ({"input": ["a", []]}, InvalidRequest, "input[1]"),
        ({"input": ["a", 1]}, InvalidRequest, "input[1]"),
        ({"input": [["a", 1]]}, InvalidRequest, "input[0]"),
        ({"input": [-1]}, InvalidRequest, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, InvalidRequest, "input"),
        ({"input": "a", "messages": MESSAGES}, InvalidRequest, "messages"),
        ({"messages": []}, InvalidRequest, "messages"),
        ({"input": "a", "encoding_format": "hex"}, InvalidRequest, "encoding_format"),
        ({"input": "a", "dimensions": 0}, InvalidRequest, "dimensions"),
        ({"input": "a", "pooling": "max"}, InvalidRequest, "pooling"),
        ({"input": "a", "pooling_half_life_tokens": 5}, InvalidRequest, "pooling_half_life_tokens"),
        ({"input": "a", "pooling_half_life_tokens": -1}, InvalidRequest, "pooling_half_life_tokens"),
        ({"input": "a", "pooling": "decayed_mean", "pooling_half_life_tokens": 5}, Unsupported, "pooling"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[LocalAIError], param: str) -> None:
    with pytest.raises(kind) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_localais_own_words() -> None:
    with pytest.raises(InvalidRequest, match="input and messages are mutually exclusive: send the conversation via"):
        parse(input="a", messages=MESSAGES)
    with pytest.raises(InvalidRequest, match=r'unknown pooling "x" \(expected backend, mean, last, decayed_mean\)'):
        parse(input="a", pooling="x")


VECTORS = [array("f", [0.5, -1.0]), array("f", [0.25, 2.0])]
DONE = Finished((), Usage(7, 0))


def test_vectors_in_the_order_of_the_inputs() -> None:
    request = parse(input=["a", "b"])
    events: list[Event] = [
        Progress("queued"),
        Embedded(1, VECTORS[1].tobytes()),
        Embedded(0, VECTORS[0].tobytes()),
        DONE,
    ]
    answer = msgspec.json.decode(msgspec.json.encode(render_embeddings(events, request, 7, None)))
    assert answer == {
        "id": "r",
        "object": "list",
        "created": 7,
        "model": "m",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 2.0]},
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    packed = render_embeddings(events, request, 7, "base64").data[0].embedding
    assert isinstance(packed, str)
    assert array("f", base64.b64decode(packed)) == VECTORS[0]


@pytest.mark.parametrize(
    "events",
    [
        [DONE],
        [Embedded(0, b""), Embedded(0, b""), DONE],
        [Embedded(1, b""), DONE],
        [Embedded(0, b"abc"), DONE],
        [Embedded(0, b""), Tokens(0, (1,), b"x"), DONE],
    ],
)
def test_a_backend_that_answers_nonsense(events: list[Event]) -> None:
    with pytest.raises(UpstreamFailed):
        render_embeddings(events, parse(input="a"), 7, None)
