"""Our bodies beside those of the official client: every field it can send is read, or left alone on purpose."""

from __future__ import annotations

import msgspec
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from localai.api.bodies import decode_body
from localai.api.schemas.responses_requests import InputItem, InputPart, ResponsesBody
from localai.mesh.errors import InvalidRequest

HINTS = {
    "access_programs",
    "background_options",
    "image",
    "moderation",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "stream_options",
}
"""They change no answer."""


def test_every_field_of_the_client_is_known() -> None:
    ours = {field.encode_name for field in msgspec.structs.fields(ResponsesBody)}
    assert set(ResponseCreateParamsNonStreaming.__annotations__) - ours - HINTS == set()


def test_items_of_all_kinds_are_one_struct_and_come_back_as_short_as_they_were() -> None:
    text = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"x"}]}'
    item = decode_body(text, InputItem)
    assert item == InputItem("message", role="user", content=[InputPart("input_text", text="x")])
    assert msgspec.json.encode(item) == text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"input": 7}', "input"),
        (b'{"input": [{"content": [{}]}]}', "input[0].content[0].type"),
        (b'{"metadata": {"a": 1}}', "metadata[...]"),
        (b'{"text": {"format": {}}}', "text.format.type"),
        (b'{"tools": [{}]}', "tools[0].type"),
    ],
)
def test_wrong_types_are_named(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(body, ResponsesBody)
    assert caught.value.param == param
