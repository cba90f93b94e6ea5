"""Items of the Responses API to turns of a conversation (pure). Source: OpenAI's API reference.

What a model said comes back as several items: thinking, text, calls. Neighbours of that kind become one turn, as chat
templates want it. Pictures, sounds and films come along inside ``data:`` URLs, or lie at addresses, which somebody
else has fetched; files are only read from ``data:`` URLs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from localai.api.schemas.responses_objects import (
    OutputCall,
    OutputCallOutput,
    OutputItem,
    OutputMessage,
    OutputReasoning,
)
from localai.api.schemas.responses_requests import InputItem, InputPart
from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound, Unsupported
from localai.node.fetch_rules import parse_data_url
from localai.node.inference import ChatMessage, Media, ToolCall

MAX_MEDIA_BYTES = 20_000_000
"""Of one picture, sound or film."""
Fetched: TypeAlias = Mapping[str, bytes]
"""URL -> what is there."""
REFERENCE = "item_reference"
_ROLES = {"developer": "system"}
"""Roles that chat templates do not know, and what they are to them."""
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_MEDIA: Mapping[str, Literal["image", "audio", "video"]] = {
    "input_image": "image",
    "input_audio": "audio",
    "input_video": "video",
}
_KINDS: Mapping[str, Literal["image", "audio", "video"]] = {"image": "image", "audio": "audio", "video": "video"}
_NOTHING_FETCHED: Fetched = {}
_TEXT_FILES = frozenset({"application/json", "application/xml", "application/yaml"})


@dataclass(frozen=True, slots=True)
class _Content:
    text: str
    media: tuple[Media, ...] = ()


def read_items(given: str | Sequence[InputItem] | None) -> list[InputItem]:
    """The input as items with their types.

    Raises:
        InvalidRequest: an item is none.
    """
    if isinstance(given, str):
        content = [InputPart("input_text", text=given)]
        return [InputItem("message", role="user", content=content)] if given else []
    return [_typed(item, f"input[{place}]") for place, item in enumerate(given or ())]


def referenced_ids(items: Iterable[InputItem]) -> tuple[str, ...]:
    """The ids of items that are only named, each once."""
    return tuple(dict.fromkeys(item.id or "" for item in items if item.type == REFERENCE))


def resolve_references(items: Iterable[InputItem], known: Mapping[str, InputItem]) -> list[InputItem]:
    """The items with what they name in its place; ``known`` has the named ones by their ids.

    Raises:
        NotFound: one is not known.
    """
    resolved = []
    for place, item in enumerate(items):
        if item.type == REFERENCE:
            if (found := known.get(item.id or "")) is None:
                message = f"There is no stored item '{(item.id or '')[:100]}'. Send the item itself."
                raise NotFound(message, code="item_not_found", param=f"input[{place}].id")
            item = found
        resolved.append(item)
    return resolved


def input_from_output(item: OutputItem) -> InputItem:
    """What a model said, or was told by the node's tools, as a later request would send it."""
    match item:
        case OutputMessage():
            parts = [InputPart("output_text", text=part.text) for part in item.content]
            return InputItem("message", item.id, item.status, item.role, parts)
        case OutputReasoning():
            parts = [InputPart("reasoning_text", text=part.text) for part in item.content]
            return InputItem("reasoning", item.id, item.status, content=parts, summary=[])
        case OutputCall():
            return InputItem(
                "function_call",
                item.id,
                item.status,
                call_id=item.call_id,
                name=item.name,
                arguments=item.arguments,
            )
        case OutputCallOutput():
            return InputItem("function_call_output", item.id, item.status, call_id=item.call_id, output=item.output)


def identified(items: Iterable[InputItem], response_id: str) -> list[InputItem]:
    """The items, each with an id: its own, or one made of that of the response and its place."""
    return [
        item if item.id else msgspec.structs.replace(item, id=input_id(response_id, item.type, place))
        for place, item in enumerate(items)
    ]


def input_id(response_id: str, kind: str, place: int) -> str:
    """The id of an item that a response was asked with. ``kind`` is the item's type."""
    return f"{ID_PREFIXES.get(kind, 'item')}_{response_id.removeprefix('resp_')}_in{place}"


def output_id(response_id: str, kind: str, place: int) -> str:
    """The id of an item of a response: the same in its stream and in its final form."""
    return f"{ID_PREFIXES[kind]}_{response_id.removeprefix('resp_')}_{place}"


def response_of_item(item_id: str) -> str:
    """The id of the response that an item with an id of ours belongs to; empty for other ids."""
    parts = item_id.split("_")
    return f"resp_{parts[1]}" if len(parts) == 3 else ""


ID_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}


def input_urls(items: Iterable[InputItem], first: int = 0) -> dict[str, str]:
    """What has to be fetched before the items can be read: URL -> where it stands first. ``first`` as below."""
    urls: dict[str, str] = {}
    for place, item in enumerate(items, start=-first):
        for name, content in (("content", item.content), ("output", item.output)):
            for number, part in enumerate(content if isinstance(content, list) else ()):
                if (url := _media_url(part)) and url[:5].lower() != "data:":
                    urls.setdefault(url, f"input[{place}].{name}[{number}].{_url_field(part)}")
    return urls


def messages_from_items(
    items: Iterable[InputItem], first: int = 0, fetched: Fetched = _NOTHING_FETCHED
) -> tuple[ChatMessage, ...]:
    """The conversation, references resolved. ``first`` is the place of the first item that is the request's own.

    ``fetched`` is what lies at :func:`input_urls`.

    Raises:
        InvalidRequest: an item is broken; ``param`` names it.
        Unsupported: an item or a part is of a kind that nothing here can do.
    """
    turns: list[ChatMessage] = []
    said = _Said()
    for place, item in enumerate(items, start=-first):
        path = f"input[{place}]"
        match item.type:
            case "reasoning":
                said.reasoning.append(_reasoning(item, path, fetched))
            case "function_call":
                said.calls.append(_call(item, path))
            case "message" if item.role == "assistant":
                content = _content(item.content, f"{path}.content", fetched)
                said.texts.append(content.text)
                said.media += content.media
            case "message":
                turns += said.take()
                turns.append(_message(item, path, fetched))
            case "function_call_output":
                turns += said.take()
                turns.append(_output(item, path, fetched))
            case _:
                raise Unsupported(
                    f"'{path}' is of type '{item.type[:50]}', which no part of this version does. Leave it out.",
                    code="unsupported_content",
                    param=f"{path}.type",
                )
    return (*turns, *said.take())


@dataclass(slots=True)
class _Said:
    """What the model said since somebody else spoke."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    media: tuple[Media, ...] = ()

    def take(self) -> list[ChatMessage]:
        """One turn, or none; begin anew."""
        turn = ChatMessage(
            "assistant",
            "\n".join(text for text in self.texts if text),
            reasoning="\n".join(text for text in self.reasoning if text),
            tool_calls=tuple(self.calls),
            media=self.media,
        )
        is_empty = not (self.texts or self.calls or turn.reasoning or self.media)
        self.texts, self.reasoning, self.calls, self.media = [], [], [], ()
        return [] if is_empty else [turn]


def _typed(item: InputItem, path: str) -> InputItem:
    if item.type:
        return item
    if item.role:
        return msgspec.structs.replace(item, type="message")
    if item.id and item.content is None:
        return msgspec.structs.replace(item, type=REFERENCE)
    raise _broken(f"'{path}' has neither a type nor a role. Send a message with role and content.", f"{path}.type")


def _message(item: InputItem, path: str, fetched: Fetched) -> ChatMessage:
    if not item.role:
        raise _broken(f"'{path}.role' is missing. Use system, developer, user or assistant.", f"{path}.role")
    content = _content(item.content, f"{path}.content", fetched)
    return ChatMessage(_ROLES.get(item.role, item.role), content.text, media=content.media)


def _reasoning(item: InputItem, path: str, fetched: Fetched) -> str:
    return _content(item.content or item.summary or "", f"{path}.content", fetched).text


def _call(item: InputItem, path: str) -> ToolCall:
    if not item.name or not item.call_id:
        missing = "call_id" if item.name else "name"
        raise _broken(f"'{path}.{missing}' is missing. Send the call as it came.", f"{path}.{missing}")
    return ToolCall(item.call_id, item.name, item.arguments or "{}")


def _output(item: InputItem, path: str, fetched: Fetched) -> ChatMessage:
    if not item.call_id:
        raise _broken(f"'{path}.call_id' is missing. Send the call_id of the function call.", f"{path}.call_id")
    if item.output is None:
        raise _broken(f"'{path}.output' is missing. Send what the function returned.", f"{path}.output")
    content = _content(item.output, f"{path}.output", fetched)
    return ChatMessage("tool", content.text, tool_call_id=item.call_id, media=content.media)


def _content(content: str | list[InputPart] | None, path: str, fetched: Fetched) -> _Content:
    if content is None:
        raise _broken(f"'{path}' is missing. Send a text or a list of parts.", path)
    if isinstance(content, str):
        return _Content(content)
    parts = [_part(part, f"{path}[{place}]", fetched) for place, part in enumerate(content)]
    return _Content("".join(part.text for part in parts), tuple(media for part in parts for media in part.media))


def _part(part: InputPart, path: str, fetched: Fetched) -> _Content:
    if part.type in _TEXTS:
        if part.text is None:
            raise _broken(f"'{path}' has no 'text'.", f"{path}.text")
        return _Content(part.text)
    if part.type == "refusal":
        return _Content(part.refusal or "")
    if part.type == "input_file":
        return _file(part, path)
    if part.type in _MEDIA:
        return _Content("", (Media(_MEDIA[part.type], _media_data(part, path, fetched)),))
    raise Unsupported(
        f"'{path}' is of type '{part.type[:50]}', which no part of this version does. Leave it out.",
        code="unsupported_content",
        param=path,
    )


def _url_field(part: InputPart) -> str:
    return part.type.removeprefix("input_") + "_url"


def _media_url(part: InputPart) -> str | None:
    """Where the picture, sound or film of a part is, unless it is in the part itself or the part is another one."""
    if part.type not in _MEDIA or part.input_audio is not None:
        return None
    url: str | None = getattr(part, _url_field(part))
    return url


def _media_data(part: InputPart, path: str, fetched: Fetched) -> bytes:
    if part.input_audio is not None:
        return _base64(part.input_audio.data, f"{path}.input_audio.data")
    url, url_path = _media_url(part), f"{path}.{_url_field(part)}"
    if url is None:
        raise _not_inline(path) if part.file_id else _broken(f"'{url_path}' is missing.", path)
    return fetched[url] if url in fetched else _inline(url, url_path)[1]


def _file(part: InputPart, path: str) -> _Content:
    given = part.file_data or part.file_url
    if not given:
        raise _not_inline(path) if part.file_id else _broken(f"'{path}.file_data' is missing.", path)
    kind, data = _inline(given, f"{path}.file_data")
    family = kind.partition("/")[0]
    if family in _KINDS:
        return _Content("", (Media(_KINDS[family], data),))
    if family == "text" or kind in _TEXT_FILES:
        return _Content(data.decode("utf-8", "replace"))
    raise Unsupported(
        f"'{path}' is a file of type '{kind[:50]}', which no part of this version reads. Send its text.",
        code="unsupported_content",
        param=path,
    )


def _inline(url: str, path: str) -> tuple[str, bytes]:
    """Type and bytes of a ``data:`` URL."""
    try:
        media = parse_data_url(url, MAX_MEDIA_BYTES)
    except InvalidRequest as error:
        raise _broken(error.message, path) from error
    except LocalAIError as error:
        error.param = path
        raise
    if media is None:
        raise _not_inline(path)
    return media.content_type, media.data


def _base64(text: str, path: str) -> bytes:
    if text[:5].lower() == "data:":
        return _inline(text, path)[1]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _broken(f"'{path}' is not base64. Encode it again.", path) from None


def _not_inline(path: str) -> Unsupported:
    return Unsupported(
        f"'{path}' is not inside the request, and nothing is fetched for it. Send a data: URL.",
        code="unsupported_content",
        param=path,
    )


def _broken(message: str, path: str) -> InvalidRequest:
    """LocalAI documents this beginning for whatever is wrong with the input."""
    return InvalidRequest(f"failed to parse input: {message}", param=path)
