"""The turns of a conversation as OpenAI's clients send them (pure).

Texts of one message are put together without anything between them, and pictures and sounds follow, as in LocalAI.
Unlike there, a part that cannot be read is an error and not left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from localai.api.dialects.media_parts import Fetched, media_at, media_from_base64
from localai.api.schemas.openai_requests import ContentPart, Message, ToolCallBody, UrlBody
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import ChatMessage, Media, ToolCall

_ROLES = {"developer": "system", "function": "tool"}
"""Roles that chat templates do not know, and what they are to them."""
_TEXTS = ("text", "input_text", "output_text")

Kind: TypeAlias = Literal["image", "audio", "video"]


def media_urls(messages: Iterable[Message]) -> dict[str, str]:
    """What has to be fetched before the messages can be read: URL -> where it stands first."""
    urls: dict[str, str] = {}
    for place, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else ()
        for number, part in enumerate(parts):
            if (named := _url(part)) is not None and named[1][:5].lower() != "data:":
                urls.setdefault(named[1], _part_path(place, number))
    return urls


def read_messages(messages: list[Message], fetched: Fetched) -> tuple[ChatMessage, ...]:
    """The conversation, with what lies at :func:`media_urls`.

    Raises:
        InvalidRequest: there is none, or a part of it is broken.
        Unsupported: it has parts that nothing here can read.
    """
    if not messages:
        raise InvalidRequest("'messages' is empty. Send at least one message.", param="messages")
    calls: dict[str, str] = {}
    return tuple(_message(message, place, fetched, calls) for place, message in enumerate(messages))


def _message(message: Message, place: int, fetched: Fetched, calls: dict[str, str]) -> ChatMessage:
    """One turn. ``calls`` has the ids of the older calls by function name, which carry none themselves."""
    path = f"messages[{place}]"
    if not message.role:
        raise InvalidRequest(f"'{path}.role' is empty. Use system, user or assistant.", param=f"{path}.role")
    text, media = message.content or "", []
    if not isinstance(text, str):
        media = [found for number, part in enumerate(text) if (found := _media(part, place, number, fetched))]
        text = "".join(_text(part, _part_path(place, number)) for number, part in enumerate(text))
    name = message.name or ""
    tool_calls = [_call(call, place, number) for number, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None:
        function = message.function_call
        calls[function.name] = f"call_{place}"
        tool_calls.append(ToolCall(calls[function.name], function.name, function.arguments))
    answered = message.tool_call_id or (calls.get(name, "") if message.role == "function" else "")
    return ChatMessage(
        role=_ROLES.get(message.role, message.role),
        content=text,
        name=name,
        reasoning=message.reasoning or message.reasoning_content or "",
        tool_calls=tuple(tool_calls),
        tool_call_id=answered,
        media=tuple(media),
    )


def _call(call: ToolCallBody, place: int, number: int) -> ToolCall:
    path = f"messages[{place}].tool_calls[{number}]"
    if call.type != "function":
        message = f"'{path}' is of type '{call.type[:50]}', and only functions can be called here. Leave it out."
        raise Unsupported(message, code="unsupported_tool", param=f"{path}.type")
    if call.function is None:
        raise InvalidRequest(f"'{path}.function' is missing. Add it.", code="missing_field", param=path)
    return ToolCall(call.id or f"call_{place}_{number}", call.function.name, call.function.arguments)


def _part_path(place: int, number: int) -> str:
    return f"messages[{place}].content[{number}]"


def _text(part: ContentPart, path: str) -> str:
    """The text of a part; empty for pictures and sounds."""
    if part.type in _TEXTS:
        if part.text is None:
            raise InvalidRequest(f"'{path}' has no 'text'. Add it.", code="missing_field", param=f"{path}.text")
        return part.text
    return part.refusal or "" if part.type == "refusal" else ""


def _media(part: ContentPart, place: int, number: int, fetched: Fetched) -> Media | None:
    """The picture or sound of a part; None for texts."""
    path = _part_path(place, number)
    if part.type in (*_TEXTS, "refusal"):
        return None
    if part.type == "input_audio" and part.input_audio is not None:
        return Media("audio", media_from_base64(part.input_audio.data, f"{path}.input_audio.data"))
    if (named := _url(part)) is not None:
        return Media(named[0], media_at(named[1], path, fetched))
    if part.type in ("input_audio", *_URL_TYPES):
        raise InvalidRequest(f"'{path}' has nothing of its type. Add it.", code="missing_field", param=path)
    message = f"'{path}' is of type '{part.type[:50]}', which nothing here can read. Leave it out."
    raise Unsupported(message, code="unsupported_content", param=path)


_URL_TYPES: Mapping[str, Kind] = {
    "image_url": "image",
    "image": "image",
    "audio_url": "audio",
    "audio": "audio",
    "video_url": "video",
    "video": "video",
}


def _url(part: ContentPart) -> tuple[Kind, str] | None:
    """What kind of thing a part names, and its URL; None for parts without one."""
    kind = _URL_TYPES.get(part.type)
    match kind:
        case "image":
            named = part.image_url
        case "audio":
            named = part.audio_url
        case "video":
            named = part.video_url
        case None:
            return None
    url = named.url if isinstance(named, UrlBody) else named
    return (kind, url) if url else None
