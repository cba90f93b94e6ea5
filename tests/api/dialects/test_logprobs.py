from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.bodies import decode_body
from localai.api.dialects.logprobs import (
    TextPlaces,
    mean_logprob,
    read_chat_logprobs,
    read_text_logprobs,
    render_chat_logprobs,
)
from localai.api.schemas.openai_requests import ChatBody
from localai.mesh.errors import InvalidRequest
from localai.node.inference import TokenLogprob

A = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5), (2, b"b", -1.0)))
HALF, REST = TokenLogprob(3, b"\xc3", -0.25, ((4, b"c", -0.125),)), TokenLogprob(5, b"\xa9", -0.75)


def chat(**fields: Any) -> int | None:
    return read_chat_logprobs(decode_body(json.dumps(fields).encode(), ChatBody))


def test_what_chat_may_ask() -> None:
    assert [chat(), chat(logprobs=False), chat(logprobs=0), chat(top_logprobs=0)] == [None] * 4
    assert [chat(logprobs=True), chat(logprobs=5), chat(logprobs=True, top_logprobs=20)] == [0, 0, 20]
    for wrong in ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 21}, {"logprobs": True, "top_logprobs": -1}):
        with pytest.raises(InvalidRequest) as caught:
            chat(**wrong)
        assert caught.value.param == "top_logprobs"


def test_what_text_completions_may_ask() -> None:
    assert [read_text_logprobs(value) for value in (None, False, True, 0, 1, 20)] == [None, None, 1, 0, 1, 20]
    for wrong in (-1, 21):
        with pytest.raises(InvalidRequest) as caught:
            read_text_logprobs(wrong)
        assert caught.value.param == "logprobs"


def test_how_chat_shows_them() -> None:
    assert msgspec.to_builtins(render_chat_logprobs([A, HALF])) == {
        "content": (
            {
                "token": "a",
                "bytes": (97,),
                "logprob": -0.5,
                "top_logprobs": (
                    {"token": "a", "bytes": (97,), "logprob": -0.5},
                    {"token": "b", "bytes": (98,), "logprob": -1.0},
                ),
            },
            {
                "token": "\ufffd",
                "bytes": (195,),
                "logprob": -0.25,
                "top_logprobs": ({"token": "c", "bytes": (99,), "logprob": -0.125},),
            },
        ),
        "refusal": None,
    }


def test_how_text_completions_show_them() -> None:
    places = TextPlaces(10)
    first = places.render([A, HALF])
    assert (first.tokens, first.token_logprobs, first.text_offset) == (["a", r"bytes:\xc3"], [-0.5, -0.25], [10, 11])
    assert first.top_logprobs == [{"a": -0.5, "b": -1.0}, {"c": -0.125, r"bytes:\xc3": -0.25}]
    assert places.render([REST, A]).text_offset == [11, 12]


@given(st.text(max_size=20), st.integers(0, 20))
def test_places_are_the_same_in_pieces(text: str, cut: int) -> None:
    tokens = [TokenLogprob(byte, bytes([byte]), -1.0) for byte in text.encode()]
    whole = TextPlaces(3).render(tokens)
    pieces = TextPlaces(3)
    first, second = pieces.render(tokens[:cut]), pieces.render(tokens[cut:])
    assert first.text_offset + second.text_offset == whole.text_offset
    assert all(place <= 3 + len(text) for place in whole.text_offset)


def test_the_mean() -> None:
    assert mean_logprob([]) == 0
    assert mean_logprob([A, HALF]) == -0.375
