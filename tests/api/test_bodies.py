from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.bodies import decode_body
from localai.api.schemas.openai_requests import ChatBody, CompletionBody, GenerationBody, Message
from localai.mesh.errors import InvalidRequest


def test_a_body_and_no_body() -> None:
    assert decode_body(b'{"model": "m", "unknown": [1]}', ChatBody).model == "m"
    assert decode_body(b"", ChatBody) == ChatBody()


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b'{"messages": 5}', "messages"),
        (b'{"messages": [{"role": 7}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": 1}]}', "messages[0].content"),
        (b'{"temperature": "hot"}', "temperature"),
        (b'{"stream": "yes"}', "stream"),
        (b'{"stop": {}}', "stop"),
        (b'{"n": 1.5}', "n"),
        (b'{"stream_options": {"include_usage": 1}}', "stream_options.include_usage"),
        (b"[]", None),
        (b"7", None),
    ],
)
def test_a_wrong_type_names_its_place(data: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(data, ChatBody)
    assert caught.value.param == param
    assert caught.value.code == "invalid_type"
    assert caught.value.message.endswith(".")


DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{]",
        b"nonsense",
        b'{"model": "\xff"}',
        b'{"model": "a"} trailing',
        b'{"messages": ' + DEEP + b"}",
        b'{"unknown": ' + DEEP + b"}",
        b'{"tools": ' + DEEP + b"}",
    ],
    ids=["open", "wrong", "word", "utf8", "trailing", "deep", "deep-unknown", "deep-any"],
)
def test_what_is_not_json_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(data, ChatBody)
    assert len(caught.value.message) <= 320


@given(st.binary(max_size=100))
def test_any_bytes_give_a_body_or_our_error(data: bytes) -> None:
    try:
        body = decode_body(data, CompletionBody)
    except InvalidRequest:
        return
    assert isinstance(body, CompletionBody)
    assert not data or isinstance(json.loads(data), dict)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b'{"messages": [{}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": [{}]}]}', "messages[0].content[0].type"),
    ],
)
def test_a_missing_field_is_named(data: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest, match="missing") as caught:
        decode_body(data, ChatBody)
    assert (caught.value.param, caught.value.code) == (param, "missing_field")


def test_a_field_missing_at_the_top_is_named_without_a_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(b"{}", Message)
    assert caught.value.param == "role"


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
def test_every_typed_field_names_itself_when_its_type_is_wrong(kind: type[GenerationBody]) -> None:
    for field in msgspec.structs.fields(kind):
        if field.type is msgspec.Raw:
            continue
        with pytest.raises(InvalidRequest) as caught:
            decode_body(b'{"%s": [[{}]]}' % field.name.encode(), kind)
        assert str(caught.value.param).partition("[")[0] == field.name
        assert caught.value.code == "invalid_type"


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
def test_null_is_no_value_in_every_optional_field(kind: type[GenerationBody]) -> None:
    for field in msgspec.structs.fields(kind):
        if field.name not in ("messages", "prompt"):
            decode_body(b'{"%s": null}' % field.name.encode(), kind)
