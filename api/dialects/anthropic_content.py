"""The turns of a conversation as Anthropic's clients send them (pure). Source: Anthropic's API reference.

Texts of one turn are put together without anything between them, as in LocalAI; neighbouring turns of one role become
one, a blank line between them. Results of tools become turns of their own, before what else the user says, as chat
templates want it. Documents and search results are shown to the model as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from localai.api.dialects.media_parts import Fetched, media_at, media_from_base64
from localai.api.dialects.raw_json import is_given, object_text
from localai.api.schemas.anthropic_requests import BlockBody, CitationsBody, SourceBody, TurnBody
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import ChatMessage, Media, ToolCall

T = TypeVar("T")
_SAID = frozenset({"text", "image", "document", "search_result"})
"""What may stand in a result of a tool, and with it in a user's turn."""
_ALLOWED: Mapping[str, frozenset[str]] = {
    "user": _SAID | {"tool_result"},
    "assistant": frozenset({"text", "thinking", "redacted_thinking", "tool_use"}),
    "system": frozenset({"text"}),
}
"""Role -> the types of its blocks."""
_DOCUMENT_PARTS = frozenset({"text", "image"})
_KNOWN = frozenset().union(*_ALLOWED.values())
_DEEPEST = 3
"""A picture in a document in a result of a tool."""


@dataclass(slots=True)
class _Content:
    """What blocks say, put together."""

    texts: list[str] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What is needed to read a conversation. ``names`` has the tool of each call so far."""

    fetched: Fetched
    names: dict[str, str] = field(default_factory=dict)


def image_urls(messages: Iterable[TurnBody]) -> dict[str, str]:
    """What has to be fetched before the turns can be read: URL -> where it stands first."""
    urls: dict[str, str] = {}
    for place, message in enumerate(messages):
        for url, path in _urls(message.content, f"messages[{place}].content", _DEEPEST):
            urls.setdefault(url, path)
    return urls


def read_conversation(
    system: str | Sequence[BlockBody] | None, messages: Sequence[TurnBody], fetched: Fetched
) -> tuple[ChatMessage, ...]:
    """The conversation, with what lies at :func:`image_urls`.

    Raises:
        InvalidRequest: there is none, or a part of it is broken or where it cannot be.
        Unsupported: it has parts that nothing here can read.
        TooLarge: a picture is too large.
    """
    if not messages:
        raise InvalidRequest("'messages' is empty. Send at least one message.", param="messages")
    reader = _Reader(fetched)
    turns: list[ChatMessage] = []
    if system:
        turns.append(ChatMessage("system", _read(system, "system", reader, _ALLOWED["system"]).text))
    for place, message in enumerate(messages):
        path = f"messages[{place}]"
        if message.role not in _ALLOWED:
            role = f"'{path}.role' is '{message.role[:50]}'. Use user or assistant."
            raise InvalidRequest(role, param=f"{path}.role")
        for turn in _turns(message, f"{path}.content", reader):
            _add(turns, turn)
    return tuple(turns)


def _add(turns: list[ChatMessage], turn: ChatMessage) -> None:
    """Append a turn, or put it into the last one when the same side goes on."""
    last = turns[-1] if turns else None
    if last is None or last.role != turn.role or turn.role == "tool":
        turns.append(turn)
        return
    turns[-1] = msgspec.structs.replace(
        last,
        content="\n\n".join(filter(None, (last.content, turn.content))),
        reasoning="\n\n".join(filter(None, (last.reasoning, turn.reasoning))),
        tool_calls=last.tool_calls + turn.tool_calls,
        media=last.media + turn.media,
    )


def _turns(message: TurnBody, path: str, reader: _Reader) -> list[ChatMessage]:
    if message.role == "assistant":
        return [_assistant_turn(message, path, reader)]
    if message.role == "system":
        return [ChatMessage("system", _read(message.content, path, reader, _ALLOWED["system"]).text)]
    results = [
        _result(block, f"{path}[{number}]", reader)
        for number, block in enumerate(_blocks(message.content))
        if block.type == "tool_result"
    ]
    said = _read(message.content, path, reader, _ALLOWED["user"])
    if results and not said.text and not said.media:
        return results
    return [*results, ChatMessage("user", said.text, media=tuple(said.media))]


def _assistant_turn(message: TurnBody, path: str, reader: _Reader) -> ChatMessage:
    """What the model said earlier. What it thought in secret cannot be read, and is left out."""
    said = _read(message.content, path, reader, _ALLOWED["assistant"])
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    for number, block in enumerate(_blocks(message.content)):
        where = f"{path}[{number}]"
        if block.type == "thinking":
            reasoning.append(_needed(block.thinking, f"{where}.thinking"))
        elif block.type == "tool_use":
            call_id, name = _needed(block.id, f"{where}.id"), _needed(block.name, f"{where}.name")
            arguments = object_text(block.input, f"{where}.input") if is_given(block.input) else "{}"
            reader.names[call_id] = name
            calls.append(ToolCall(call_id, name, arguments))
    return ChatMessage("assistant", said.text, reasoning="".join(reasoning), tool_calls=tuple(calls))


def _result(block: BlockBody, path: str, reader: _Reader) -> ChatMessage:
    """What a tool gave. Chat templates know no failed calls, so the text says it."""
    call_id = _needed(block.tool_use_id, f"{path}.tool_use_id")
    content = _read(block.content or "", f"{path}.content", reader, _SAID)
    text = f"Error: {content.text}" if block.is_error else content.text
    return ChatMessage(
        "tool", text, name=reader.names.get(call_id, ""), tool_call_id=call_id, media=tuple(content.media)
    )


def _read(content: str | Sequence[BlockBody], path: str, reader: _Reader, allowed: frozenset[str]) -> _Content:
    """Texts and pictures of blocks that may stand at a place; calls, results and thoughts are only checked."""
    said = _Content()
    if isinstance(content, str):
        said.texts.append(content)
        return said
    for number, block in enumerate(content):
        where = f"{path}[{number}]"
        _check_type(block, where, allowed)
        match block.type:
            case "text":
                said.texts.append(_needed(block.text, f"{where}.text"))
            case "image":
                said.media.append(Media("image", _picture(block.source, f"{where}.source", reader.fetched)))
            case "document":
                _read_document(block, where, reader, said)
            case "search_result":
                said.texts.append(_search_result(block, where, reader))
            case _:
                pass
    return said


def _check_type(block: BlockBody, path: str, allowed: frozenset[str]) -> None:
    if block.type in allowed:
        return
    if block.type in _KNOWN:
        message = f"'{path}' is of type '{block.type}', which cannot stand there. Use {', '.join(sorted(allowed))}."
        raise InvalidRequest(message, param=f"{path}.type")
    message = f"'{path}' is of type '{block.type[:50]}', which nothing here can read. Leave it out."
    raise Unsupported(message, code="unsupported_content", param=f"{path}.type")


def _read_document(block: BlockBody, path: str, reader: _Reader, said: _Content) -> None:
    """Add a document: its text in tags, so that the model sees where it begins and ends, and its pictures."""
    _refuse_citations(block, path)
    source = block.source
    if not isinstance(source, SourceBody):
        raise _missing(f"{path}.source")
    match source.type:
        case "text":
            inside = _Content([_needed(source.data, f"{path}.source.data")])
        case "content":
            if source.content is None:
                raise _missing(f"{path}.source.content")
            inside = _read(source.content, f"{path}.source.content", reader, _DOCUMENT_PARTS)
        case _:
            message = f"'{path}.source' is of type '{source.type[:50]}', and only texts can be read. Send its text."
            raise Unsupported(message, code="unsupported_content", param=f"{path}.source.type")
    said.texts.append(_tagged("document", {"title": block.title, "context": block.context}, inside.text))
    said.media += inside.media


def _search_result(block: BlockBody, path: str, reader: _Reader) -> str:
    _refuse_citations(block, path)
    found = _read(block.content or "", f"{path}.content", reader, frozenset({"text"}))
    source = block.source if isinstance(block.source, str) else None
    return _tagged("search_result", {"source": source, "title": block.title}, found.text)


def _tagged(tag: str, head: Mapping[str, str | None], text: str) -> str:
    lines = [f"<{name}>{value}</{name}>" for name, value in head.items() if value]
    return "\n".join([f"<{tag}>", *lines, text, f"</{tag}>", ""])


def _refuse_citations(block: BlockBody, path: str) -> None:
    if isinstance(block.citations, CitationsBody) and block.citations.enabled:
        message = f"'{path}.citations' asks for citations, which no model here can make. Leave it out."
        raise Unsupported(message, code="unsupported_field", param=f"{path}.citations")


def _picture(source: str | SourceBody | None, path: str, fetched: Fetched) -> bytes:
    if not isinstance(source, SourceBody):
        raise _missing(path)
    match source.type:
        case "base64":
            return media_from_base64(_needed(source.data, f"{path}.data"), f"{path}.data")
        case "url":
            return media_at(_needed(source.url, f"{path}.url"), f"{path}.url", fetched)
        case _:
            message = f"'{path}' is of type '{source.type[:50]}', which nothing here can read. Use base64 or url."
            raise Unsupported(message, code="unsupported_content", param=f"{path}.type")


def _urls(content: str | Sequence[BlockBody] | None, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth == 0:
        return
    for number, block in enumerate(_blocks(content)):
        where = f"{path}[{number}]"
        source = block.source if isinstance(block.source, SourceBody) else None
        if source is not None and block.type == "image" and source.type == "url" and source.url:
            if source.url[:5].lower() != "data:":
                yield source.url, f"{where}.source.url"
        elif source is not None:
            yield from _urls(source.content, f"{where}.source.content", depth - 1)
        yield from _urls(block.content, f"{where}.content", depth - 1)


def _blocks(content: str | Sequence[BlockBody] | None) -> Sequence[BlockBody]:
    return () if content is None or isinstance(content, str) else content


def _needed(value: T | None, path: str) -> T:
    if value is None:
        raise _missing(path)
    return value


def _missing(path: str) -> InvalidRequest:
    return InvalidRequest(f"'{path}' is missing. Add it.", code="missing_field", param=path)
