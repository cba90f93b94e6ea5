from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.chat_messages import media_urls, read_messages
from localai.api.schemas.openai_requests import ChatBody, Message
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.inference import ChatMessage, Media, ToolCall

PNG = "data:image/png;base64,iVBORw=="
FAR = "https://example.org/cat.png"


def messages(*given: dict[str, Any]) -> list[Message]:
    return decode_body(json.dumps({"messages": given}).encode(), ChatBody).messages


def read(*given: dict[str, Any]) -> tuple[ChatMessage, ...]:
    return read_messages(messages(*given), {FAR: b"cat"})


def content(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": parts}


def test_texts_of_every_form() -> None:
    assert read(
        {
            "role": "developer",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "input_text", "text": "b"},
                {"type": "output_text", "text": ""},
            ],
        },
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}, {"type": "refusal"}]},
        {"role": "assistant", "content": None, "reasoning": "Hm."},
        {"role": "assistant", "reasoning_content": "Hm."},
    ) == (
        ChatMessage("system", "ab"),
        ChatMessage("user", "hi", "ann"),
        ChatMessage("assistant", "No."),
        ChatMessage("assistant", "", reasoning="Hm."),
        ChatMessage("assistant", "", reasoning="Hm."),
    )


def test_calls_and_their_answers() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"function": {"name": "g"}},
    ]
    assert read(
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
    ) == (
        ChatMessage("assistant", "", tool_calls=(ToolCall("c1", "f", '{"a":1}'), ToolCall("call_0_1", "g", ""))),
        ChatMessage("tool", "1", tool_call_id="c1"),
    )


def test_the_older_calls_get_ids() -> None:
    assert read(
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "function", "name": "g", "content": "2"},
    ) == (
        ChatMessage("assistant", "", tool_calls=(ToolCall("call_0", "f", "{}"),)),
        ChatMessage("tool", "1", "f", tool_call_id="call_0"),
        ChatMessage("tool", "2", "g"),
    )


def test_pictures_and_sounds() -> None:
    [message] = read(
        content(
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
            {"type": "image", "image_url": PNG},
            {"type": "image_url", "image_url": {"url": FAR}},
            {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AAAA"}},
            {"type": "video", "video_url": {"url": "data:,x"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        )
    )
    png = Media("image", b"\x89PNG")
    assert message.content == "What?"
    assert message.media == (
        png,
        png,
        Media("image", b"cat"),
        Media("audio", b"\0\0\0"),
        Media("video", b"x"),
        Media("audio", b"\0\0\0"),
    )


def test_what_has_to_be_fetched() -> None:
    near = {"type": "image_url", "image_url": PNG}
    far = {"type": "image_url", "image_url": {"url": FAR}}
    asked = messages({"role": "user", "content": "x"}, content(near, far), content(far, {"type": "text", "text": "a"}))
    assert media_urls(asked) == {FAR: "messages[1].content[1]"}


@pytest.mark.parametrize(
    ("message", "kind", "param"),
    [
        ({"role": "", "content": "x"}, InvalidRequest, "messages[0].role"),
        (content({"type": "text"}), InvalidRequest, "messages[0].content[0].text"),
        (content({"type": "image_url"}), InvalidRequest, "messages[0].content[0]"),
        (content({"type": "image_url", "image_url": ""}), InvalidRequest, "messages[0].content[0]"),
        (content({"type": "input_audio"}), InvalidRequest, "messages[0].content[0]"),
        (content({"type": "image_url", "image_url": "data:x"}), InvalidRequest, "messages[0].content[0]"),
        (
            content({"type": "input_audio", "input_audio": {"data": "é"}}),
            InvalidRequest,
            "messages[0].content[0].input_audio.data",
        ),
        (content({"type": "file"}), Unsupported, "messages[0].content[0]"),
        (content({"type": "image_url", "image_url": "http://x/y"}), Unsupported, "messages[0].content[0]"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, Unsupported, "messages[0].tool_calls[0].type"),
        ({"role": "assistant", "tool_calls": [{}]}, InvalidRequest, "messages[0].tool_calls[0]"),
    ],
)
def test_what_is_wrong_is_named(message: dict[str, Any], kind: type[LocalAIError], param: str) -> None:
    with pytest.raises(kind) as caught:
        read(message)
    assert caught.value.param == param
    assert caught.value.message.endswith(".")


def test_no_messages_at_all() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read()
    assert caught.value.param == "messages"
