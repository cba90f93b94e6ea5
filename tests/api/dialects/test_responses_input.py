from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.responses_input import (
    MAX_MEDIA_BYTES,
    identified,
    input_from_output,
    input_id,
    input_urls,
    messages_from_items,
    output_id,
    read_items,
    referenced_ids,
    resolve_references,
    response_of_item,
)
from localai.api.schemas.responses_objects import (
    OutputCall,
    OutputCallOutput,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
)
from localai.api.schemas.responses_requests import InputItem, InputPart
from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound, TooLarge, Unsupported
from localai.node.inference import ChatMessage, Media, ToolCall

PNG = b"\x89PNG"
DATA = base64.b64encode(PNG).decode()
RESPONSE = "resp_" + "0" * 32


def items(*given: Any) -> list[InputItem]:
    return read_items(msgspec.convert(list(given), list[InputItem]))


def turns(*given: Any) -> tuple[ChatMessage, ...]:
    return messages_from_items(items(*given))


def test_a_text_is_a_message() -> None:
    (item,) = read_items("hi")
    assert item == InputItem("message", role="user", content=[InputPart("input_text", text="hi")])
    assert messages_from_items([item]) == (ChatMessage("user", "hi"),)
    assert read_items("") == read_items(None) == []


def test_messages_with_and_without_a_type() -> None:
    assert turns(
        {"role": "developer", "content": "be nice"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ) == (
        ChatMessage("system", "be nice"),
        ChatMessage("user", "ab"),
        ChatMessage("assistant", "c\nno"),
    )


def test_what_a_model_said_in_pieces_is_one_turn() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a":1}'}
    assert turns(
        {"role": "user", "content": "x"},
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": "let me see"},
        call,
        {**call, "call_id": "2", "arguments": ""},
        {"type": "function_call_output", "call_id": "1", "output": "one"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "in short"}]},
    ) == (
        ChatMessage("user", "x"),
        ChatMessage(
            "assistant",
            "let me see",
            reasoning="hm",
            tool_calls=(ToolCall("1", "f", '{"a":1}'), ToolCall("2", "f", "{}")),
        ),
        ChatMessage("tool", "one", tool_call_id="1"),
        ChatMessage("tool", "two", tool_call_id="2"),
        ChatMessage("assistant", "", reasoning="in short"),
    )


def test_thinking_that_is_hidden_is_nothing() -> None:
    assert turns({"type": "reasoning", "summary": [], "encrypted_content": "x"}, {"role": "user", "content": "x"}) == (
        ChatMessage("user", "x"),
    )


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}, Media("image", PNG)),
        ({"type": "input_video", "video_url": f"data:video/mp4;base64,{DATA}"}, Media("video", PNG)),
        ({"type": "input_audio", "audio_url": f"data:audio/wav;base64,{DATA}"}, Media("audio", PNG)),
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, Media("audio", PNG)),
        (
            {"type": "input_audio", "input_audio": {"data": f"data:audio/wav;base64,{DATA}"}},
            Media("audio", PNG),
        ),
        ({"type": "input_file", "file_data": f"data:image/png;base64,{DATA}"}, Media("image", PNG)),
    ],
)
def test_media_inside_the_request(part: Any, media: Media) -> None:
    text = {"type": "input_text", "text": "look"}
    for role in ("user", "assistant"):
        assert turns({"role": role, "content": [text, part]}) == (ChatMessage(role, "look", media=(media,)),)


def test_media_at_addresses() -> None:
    image = {"type": "input_image", "image_url": "https://a/1"}
    sound = {"type": "input_audio", "audio_url": "https://a/2"}
    given = items(
        {"role": "user", "content": "x"},
        {"role": "user", "content": [{"type": "input_text", "text": "look"}, image, sound]},
        {"type": "function_call_output", "call_id": "1", "output": [image]},
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": f"DATA:image/png;base64,{DATA}"},
                {"type": "input_audio", "input_audio": {"data": DATA}, "audio_url": "https://a/3"},
                {"type": "input_image", "file_id": "f"},
                {"type": "input_file", "file_url": "https://a/4"},
            ],
        },
    )
    assert input_urls(given, first=1) == {
        "https://a/1": "input[0].content[1].image_url",
        "https://a/2": "input[0].content[2].audio_url",
    }
    fetched = {"https://a/1": b"1", "https://a/2": b"2"}
    assert messages_from_items(given[:3], fetched=fetched) == (
        ChatMessage("user", "x"),
        ChatMessage("user", "look", media=(Media("image", b"1"), Media("audio", b"2"))),
        ChatMessage("tool", "", tool_call_id="1", media=(Media("image", b"1"),)),
    )


def test_a_file_of_text_is_text() -> None:
    for kind in ("text/plain", "application/json"):
        part = {"type": "input_file", "filename": "a", "file_data": f"data:{kind},a%20b"}
        assert turns({"role": "user", "content": [part]}) == (ChatMessage("user", "a b"),)


INPUT = "failed to parse input: "


@pytest.mark.parametrize(
    ("item", "param", "kind"),
    [
        ({}, "input[0].type", InvalidRequest),
        ({"id": "a", "content": "x"}, "input[0].type", InvalidRequest),
        ({"type": "message", "content": "x"}, "input[0].role", InvalidRequest),
        ({"role": "user"}, "input[0].content", InvalidRequest),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text", InvalidRequest),
        ({"type": "function_call", "call_id": "1"}, "input[0].name", InvalidRequest),
        ({"type": "function_call", "name": "f"}, "input[0].call_id", InvalidRequest),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id", InvalidRequest),
        ({"type": "function_call_output", "call_id": "1"}, "input[0].output", InvalidRequest),
        ({"type": "web_search_call"}, "input[0].type", Unsupported),
        ({"type": "item_reference", "id": "x"}, "input[0].type", Unsupported),
        ({"role": "user", "content": [{"type": "x"}]}, "input[0].content[0]", Unsupported),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0]", InvalidRequest),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0]", Unsupported),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]},
            "input[0].content[0].image_url",
            Unsupported,
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:nothing"}]},
            "input[0].content[0].image_url",
            InvalidRequest,
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?"}}]},
            "input[0].content[0].input_audio.data",
            InvalidRequest,
        ),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0]", InvalidRequest),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0]", Unsupported),
        (
            {"role": "user", "content": [{"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}"}]},
            "input[0].content[0]",
            Unsupported,
        ),
    ],
)
def test_what_cannot_be_used_is_named(item: Any, param: str, kind: type[LocalAIError]) -> None:
    with pytest.raises(kind) as caught:
        turns(item)
    assert caught.value.param == param
    assert caught.value.message.startswith(INPUT) == (kind is InvalidRequest)


def test_too_much_of_a_picture() -> None:
    url = "data:image/png," + "x" * (MAX_MEDIA_BYTES + 1)
    with pytest.raises(TooLarge) as caught:
        turns({"role": "user", "content": [{"type": "input_image", "image_url": url}]})
    assert caught.value.param == "input[0].content[0].image_url"


def test_places_count_from_the_first_item_of_the_request() -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages_from_items(items({"role": "user", "content": "x"}, {"role": "user"}), first=1)
    assert caught.value.param == "input[0].content"


def test_references() -> None:
    known = InputItem("message", "msg_1", role="user", content="x")
    given = items({"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "y"}, {"id": "msg_1"})
    assert referenced_ids(given) == ("msg_1",)
    assert resolve_references(given, {"msg_1": known}) == [known, given[1], known]
    with pytest.raises(NotFound) as caught:
        resolve_references(given[1:], {})
    assert caught.value.param == "input[1].id"


def test_output_comes_back_as_input() -> None:
    output: list[OutputItem] = [
        OutputReasoning(id="r", status="completed", content=[ReasoningText("hm")]),
        OutputMessage(id="m", status="completed", content=[OutputText("a")]),
        OutputCall(id="f", status="completed", call_id="c", name="g", arguments="{}"),
        OutputCallOutput(id="o", status="completed", call_id="c", output="42"),
    ]
    said = [input_from_output(item) for item in output]
    assert [item.id for item in said] == ["r", "m", "f", "o"]
    sent_back = items(*msgspec.to_builtins(output))
    expected = (
        ChatMessage("assistant", "a", reasoning="hm", tool_calls=(ToolCall("c", "g", "{}"),)),
        ChatMessage("tool", "42", tool_call_id="c"),
    )
    assert messages_from_items(said) == messages_from_items(sent_back) == expected


def test_ids() -> None:
    given = items({"role": "user", "content": "x"}, {"role": "user", "content": "y", "id": "mine"})
    first, second = identified(given, RESPONSE)
    assert (first.id, second.id) == (f"msg_{'0' * 32}_in0", "mine")
    assert input_id(RESPONSE, "strange", 3) == f"item_{'0' * 32}_in3"


@given(st.sampled_from(["message", "reasoning", "function_call", "function_call_output"]), st.integers(0, 9))
def test_an_id_tells_the_response(kind: str, place: int) -> None:
    assert response_of_item(output_id(RESPONSE, kind, place)) == RESPONSE
    assert response_of_item(input_id(RESPONSE, kind, place)) == RESPONSE


@pytest.mark.parametrize("item_id", ["", "msg_1", "a_b_c_d"])
def test_other_ids_tell_nothing(item_id: str) -> None:
    assert response_of_item(item_id) == ""
