from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.anthropic_content import image_urls, read_conversation
from localai.api.schemas.anthropic_requests import MessagesBody
from localai.mesh.errors import InvalidRequest, LocalAIError, TooLarge, Unsupported
from localai.node.inference import ChatMessage, Media, ToolCall

FAR = "https://example.org/cat.png"
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
INLINE = "data:image/png;base64,iVBORw=="


def body(*messages: dict[str, Any], system: Any = None) -> MessagesBody:
    return decode_body(json.dumps({"messages": messages, "system": system}).encode(), MessagesBody)


def read(*messages: dict[str, Any], system: Any = None) -> tuple[ChatMessage, ...]:
    given = body(*messages, system=system)
    return read_conversation(given.system, given.messages, {FAR: b"cat"})


def user(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    content = blocks[0] if len(blocks) == 1 and isinstance(blocks[0], str) else blocks
    return {"role": "user", "content": content}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": blocks}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}, "citations": None}


def image(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "source": source}


def result(call: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def document(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]])
def test_the_system_prompt_and_plain_turns(system: Any) -> None:
    turns = read(user("hi"), assistant(text("a"), text("b")), user(text("c")), system=system)
    assert turns == (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "ab"),
        ChatMessage("user", "c"),
    )


def test_neighbours_of_one_role_are_one_turn() -> None:
    turns = read(
        {"role": "system", "content": "b"},
        user("x"),
        user(image(PNG)),
        user(text("y"), image(PNG)),
        assistant({"type": "thinking", "thinking": "Hm."}, text("1")),
        assistant({"type": "thinking", "thinking": "Ah."}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        system="a",
    )
    picture = Media("image", b"\x89PNG")
    assert turns == (
        ChatMessage("system", "a\n\nb"),
        ChatMessage("user", "x\n\ny", media=(picture, picture)),
        ChatMessage("assistant", "1", reasoning="Hm.\n\nAh.", tool_calls=(ToolCall("t", "f", "{}"),)),
    )


def test_calls_and_their_results() -> None:
    turns = read(
        user("weather?"),
        assistant(
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "thinking", "thinking": "Look.", "signature": "s"},
            text("Looking."),
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "Rom"}},
            {"type": "tool_use", "id": "call_2", "name": "feel"},
        ),
        user(
            text("Here"),
            result("toolu_1", [text("su"), text("nny"), image({"type": "url", "url": FAR})]),
            result("call_2", "too hot", is_error=True),
            result("unknown"),
        ),
    )
    assert turns[1:] == (
        ChatMessage(
            "assistant",
            "Looking.",
            reasoning="Look.",
            tool_calls=(ToolCall("toolu_1", "look", '{"at": "Rom"}'), ToolCall("call_2", "feel", "{}")),
        ),
        ChatMessage("tool", "sunny", name="look", tool_call_id="toolu_1", media=(Media("image", b"cat"),)),
        ChatMessage("tool", "Error: too hot", name="feel", tool_call_id="call_2"),
        ChatMessage("tool", "", tool_call_id="unknown"),
        ChatMessage("user", "Here"),
    )


def test_results_alone_make_no_turn_of_the_user() -> None:
    assert [turn.role for turn in read(user("a"), user(result("x", "1")), user(result("y", "2")))] == [
        "user",
        "tool",
        "tool",
    ]


def test_documents_and_search_results_become_text() -> None:
    (turn,) = read(
        user(
            document({"type": "text", "media_type": "text/plain", "data": "Plain."}, title="T", context="C"),
            document({"type": "content", "content": [text("Part."), image(PNG)]}, citations={"enabled": False}),
            document({"type": "content", "content": "Whole."}),
            {"type": "search_result", "source": "https://x", "title": "X", "content": [text("Found.")]},
            {"type": "search_result", "source": None},
            text("Well?"),
        )
    )
    assert turn.content == (
        "<document>\n<title>T</title>\n<context>C</context>\nPlain.\n</document>\n"
        "<document>\nPart.\n</document>\n"
        "<document>\nWhole.\n</document>\n"
        "<search_result>\n<source>https://x</source>\n<title>X</title>\nFound.\n</search_result>\n"
        "<search_result>\n\n</search_result>\n"
        "Well?"
    )
    assert turn.media == (Media("image", b"\x89PNG"),)


def test_pictures_by_url_are_named_once_wherever_they_stand() -> None:
    far = {"type": "url", "url": FAR}
    given = body(
        user("a"),
        user(image({"type": "url", "url": INLINE}), image(PNG), image({"type": "url"})),
        user(result("t", [document({"type": "content", "content": [image(far)]})])),
        user(image(far), {"type": "image", "source": "text"}),
    )
    assert image_urls(given.messages) == {FAR: "messages[2].content[0].content[0].source.content[0].source.url"}


def test_blocks_in_blocks_for_ever_are_not_followed() -> None:
    block = image({"type": "url", "url": FAR})
    for _ in range(200):
        block = result("t", [block])
    assert image_urls(body(user(block)).messages) == {}


def test_a_picture_inside_its_url() -> None:
    assert read(user(image({"type": "url", "url": INLINE})))[0].media == (Media("image", b"\x89PNG"),)


CASES: list[tuple[dict[str, Any], type[LocalAIError], str]] = [
    ({"role": "tool", "content": "x"}, InvalidRequest, "messages[0].role"),
    (user({"type": "text"}), InvalidRequest, "messages[0].content[0].text"),
    (user({"type": "thinking", "thinking": "x"}), InvalidRequest, "messages[0].content[0].type"),
    (user({"type": "tool_use"}), InvalidRequest, "messages[0].content[0].type"),
    (assistant(result("t")), InvalidRequest, "messages[0].content[0].type"),
    (assistant({"type": "thinking"}), InvalidRequest, "messages[0].content[0].thinking"),
    (assistant({"type": "tool_use", "name": "f"}), InvalidRequest, "messages[0].content[0].id"),
    (assistant({"type": "tool_use", "id": "t"}), InvalidRequest, "messages[0].content[0].name"),
    (
        assistant({"type": "tool_use", "id": "t", "name": "f", "input": []}),
        InvalidRequest,
        "messages[0].content[0].input",
    ),
    (user({"type": "tool_result"}), InvalidRequest, "messages[0].content[0].tool_use_id"),
    (user(result("t", [result("u")])), InvalidRequest, "messages[0].content[0].content[0].type"),
    (user({"type": "image"}), InvalidRequest, "messages[0].content[0].source"),
    (user(image({"type": "base64"})), InvalidRequest, "messages[0].content[0].source.data"),
    (user(image({"type": "base64", "data": "?"})), InvalidRequest, "messages[0].content[0].source.data"),
    (user(image({"type": "base64", "data": "ü"})), InvalidRequest, "messages[0].content[0].source.data"),
    (user(image({"type": "url"})), InvalidRequest, "messages[0].content[0].source.url"),
    (user(image({"type": "url", "url": "data:x"})), InvalidRequest, "messages[0].content[0].source.url"),
    (user(image({"type": "url", "url": "https://other"})), Unsupported, "messages[0].content[0].source.url"),
    (user(image({"type": "file", "file_id": "f"})), Unsupported, "messages[0].content[0].source.type"),
    (user({"type": "document"}), InvalidRequest, "messages[0].content[0].source"),
    (user(document({"type": "text"})), InvalidRequest, "messages[0].content[0].source.data"),
    (user(document({"type": "content"})), InvalidRequest, "messages[0].content[0].source.content"),
    (user(document({"type": "base64", "data": "JVBERi0="})), Unsupported, "messages[0].content[0].source.type"),
    (
        user(document({"type": "content", "content": [result("t")]})),
        InvalidRequest,
        "messages[0].content[0].source.content[0].type",
    ),
    (user(document({"type": "text"}, citations={"enabled": True})), Unsupported, "messages[0].content[0].citations"),
    (user({"type": "web_search_tool_result", "content": []}), Unsupported, "messages[0].content[0].type"),
]


@pytest.mark.parametrize(("message", "kind", "param"), CASES)
def test_what_is_wrong_is_named(message: dict[str, Any], kind: type[LocalAIError], param: str) -> None:
    with pytest.raises(kind) as caught:
        read(message)
    assert caught.value.param == param
    place = param.removesuffix(".type")  # the body of an error has no other place for it
    assert place in caught.value.message or caught.value.code == "invalid_media_url"


def test_no_messages_a_system_prompt_of_pictures_and_a_huge_picture() -> None:
    with pytest.raises(InvalidRequest, match="'messages' is empty"):
        read()
    with pytest.raises(InvalidRequest, match=r"'system\[0\]' is of type 'image'"):
        read(user("a"), system=[image(PNG)])
    with pytest.raises(TooLarge):
        read(user(image({"type": "url", "url": "data:image/png," + "a" * 80_000_001})))
