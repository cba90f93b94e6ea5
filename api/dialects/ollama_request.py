"""Ollama's bodies to requests (pure). Source: Ollama's API reference."""

from __future__ import annotations

import re

import msgspec

from localai.api.dialects.raw_json import is_given, object_text
from localai.api.schemas.ollama import (
    ChatBody,
    EmbedBody,
    GenerateBody,
    GenerationBody,
    MessageBody,
    Options,
    ToolBody,
)
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import (
    MAX_INPUTS,
    MAX_STOP_STRINGS,
    MAX_TOP_LOGPROBS,
    ChatInput,
    ChatMessage,
    Constraint,
    EmbedRequest,
    GenerateRequest,
    JsonSchema,
    Media,
    Prompt,
    RequestId,
    Sampling,
    TextInput,
    Tool,
    ToolCall,
)
from localai.node.request_defaults import (
    MAX_TOKENS,
    NO_DEFAULTS,
    RANGES,
    ZERO_IS_NOTHING,
    RequestDefaults,
    sampling_from,
)

MAX_STOP_CHARS = 1000
_WHOLE = ("top_k", "seed", "num_predict")
_EFFORTS = {"true": "", "false": "none", "low": "low", "medium": "medium", "high": "high"}
_NEUTRAL = {"mirostat": (0,), "typical_p": (0, 1), "tfs_z": (0, 1)}
"""Ways to draw that there are not here, and the values that switch them off."""
_EMPTY = Options()
_NO_TIME = re.compile(r"0+(?:\.0*)?(?:ns|us|µs|ms|s|m|h)?")


def parse_chat(
    body: ChatBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> GenerateRequest:
    """The request of a conversation, which has messages.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that there is not.
    """
    prompt = ChatInput(
        messages=_messages(body.messages or []),
        tools=tuple(_tool(tool, f"tools[{place}]") for place, tool in enumerate(body.tools or ())),
        reasoning_effort=_effort(body.think),
    )
    return _request(body, request_id, model, prompt, defaults)


def parse_generate(
    body: GenerateBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> GenerateRequest:
    """The request for an answer to one prompt, or with ``raw`` for how a text goes on.

    Raises:
        InvalidRequest: a field is out of range.
        Unsupported: a field asks for something that there is not.
    """
    for name in ("suffix", "template", "context"):
        if getattr(body, name):
            raise _unsupported(name)
    text = body.prompt or ""
    if body.raw:
        if body.images:
            raise InvalidRequest("'images' cannot stand in a 'raw' prompt. Leave one of them out.", param="images")
        return _request(body, request_id, model, TextInput(text), defaults)
    system = (ChatMessage("system", body.system),) if body.system else ()
    user = ChatMessage("user", text, media=_media(body.images))
    return _request(body, request_id, model, ChatInput((*system, user), reasoning_effort=_effort(body.think)), defaults)


def asks_to_load(body: ChatBody | GenerateBody) -> bool:
    """Whether there is nothing to answer: such a request has the model loaded."""
    if isinstance(body, ChatBody):
        return not body.messages
    return not body.prompt and not body.images


def asks_to_unload(body: GenerationBody) -> bool:
    """Whether a request without anything to answer means that the model may go: 0, or a text such as ``0s``."""
    return body.keep_alive == 0 or (isinstance(body.keep_alive, str) and bool(_NO_TIME.fullmatch(body.keep_alive)))


def parse_embed(body: EmbedBody, request_id: RequestId, model: str, *, local_only: bool) -> EmbedRequest:
    """The request for one vector for each text.

    Raises:
        InvalidRequest: there is no text, or there are too many, or a number is out of range.
    """
    given = body.prompt if body.input is None else body.input
    texts = [given] if isinstance(given, str) else given or []
    if not any(texts):
        raise InvalidRequest("input is required: send a text or a list of texts in 'input'.", param="input")
    if len(texts) > MAX_INPUTS:
        message = f"'input' has {len(texts)} texts; at most {MAX_INPUTS} are allowed. Send fewer."
        raise InvalidRequest(message, param="input")
    if body.dimensions is not None and body.dimensions < 0:
        raise InvalidRequest(f"'dimensions' must be at least 1, not {body.dimensions}.", param="dimensions")
    return EmbedRequest(request_id, model, tuple(map(TextInput, texts)), body.dimensions or None, local_only=local_only)


def _request(
    body: GenerationBody, request_id: RequestId, model: str, prompt: Prompt, defaults: RequestDefaults
) -> GenerateRequest:
    options = body.options or _EMPTY
    for name, neutral in _NEUTRAL.items():
        if getattr(options, name) not in (None, *neutral):
            raise _unsupported(f"options.{name}")
    limit = _whole(options, "num_predict")
    return GenerateRequest(
        id=request_id,
        model=model,
        prompt=prompt,
        sampling=_sampling(options, defaults.sampling),
        max_tokens=defaults.max_tokens if limit is None else min(limit, MAX_TOKENS) if limit > 0 else None,
        stop=_stop(options.stop),
        ignore_eos=defaults.ignore_eos,
        constraint=_constraint(body.format),
        logprobs=_logprobs(body),
    )


def _sampling(options: Options, default: Sampling) -> Sampling:
    numbers = {name: getattr(options, name, None) for name in RANGES} | {
        name: _whole(options, name) for name in ("top_k", "seed")
    }
    for name, (least, greatest) in RANGES.items():
        value = numbers[name]
        if value is None or (value == 0 and name in ZERO_IS_NOTHING):
            continue
        if not least <= value <= greatest:
            path = f"options.{name}"
            raise InvalidRequest(f"'{path}' must be between {least} and {greatest}, not {value:g}.", param=path)
    return sampling_from(numbers, default)


def _whole(options: Options, name: str) -> int | None:
    value: float | None = getattr(options, name)
    if value is None:
        return None
    if not value.is_integer():
        path = f"options.{name}"
        raise InvalidRequest(f"'{path}' must be a whole number, not {value:g}.", param=path)
    return int(value)


def _stop(value: str | list[str] | None) -> tuple[str, ...]:
    stops = tuple(text for text in ([value] if isinstance(value, str) else value or []) if text)
    if len(stops) > MAX_STOP_STRINGS or any(len(text) > MAX_STOP_CHARS for text in stops):
        message = f"'options.stop' may have {MAX_STOP_STRINGS} texts of {MAX_STOP_CHARS} characters. Send fewer."
        raise InvalidRequest(message, param="options.stop")
    return stops


def _constraint(wanted: msgspec.Raw) -> Constraint | None:
    if not is_given(wanted) or bytes(wanted) == b'""':
        return None
    if bytes(wanted) == b'"json"':
        return JsonSchema()
    if bytes(wanted)[:1] != b"{":
        raise InvalidRequest("'format' is neither \"json\" nor a JSON schema. Send one of them.", param="format")
    return JsonSchema(object_text(wanted, "format"))


def _logprobs(body: GenerationBody) -> int | None:
    top = body.top_logprobs or 0
    if not 0 <= top <= MAX_TOP_LOGPROBS:
        message = f"'top_logprobs' must be between 0 and {MAX_TOP_LOGPROBS}, not {top}."
        raise InvalidRequest(message, param="top_logprobs")
    return top if body.logprobs else None


def _effort(think: bool | str | None) -> str:
    """How much to think, in the words of ``ChatInput``."""
    word = str(think).lower() if think not in (None, "") else "true"
    if word not in _EFFORTS:
        message = f"'think' is '{word[:50]}'. Send true, false, low, medium or high."
        raise InvalidRequest(message, param="think")
    return _EFFORTS[word]


def _tool(tool: ToolBody, path: str) -> Tool:
    if tool.type not in (None, "", "function"):
        message = f"'{path}' is of type '{tool.type[:50]}', and only functions can be called here. Leave it out."
        raise Unsupported(message, code="unsupported_tool", param=f"{path}.type")
    function = tool.function
    if function is None or not function.name:
        raise InvalidRequest(f"'{path}' names no function. Add 'function' with a 'name'.", param=f"{path}.function")
    given = function.parameters
    schema = object_text(given, f"{path}.function.parameters") if is_given(given) else "{}"
    return Tool(function.name, function.description or "", schema)


def _messages(messages: list[MessageBody]) -> tuple[ChatMessage, ...]:
    """The turns. Ollama's clients name the tool that an answer comes from; models are told which call it answers."""
    found: list[ChatMessage] = []
    unanswered: list[ToolCall] = []
    for place, message in enumerate(messages):
        turn = _message(message, place)
        if turn.tool_calls:
            unanswered = list(turn.tool_calls)
        if turn.role == "tool":
            call = next((call for call in unanswered if turn.name in ("", call.name)), None)
            if call is not None and not turn.tool_call_id:
                unanswered.remove(call)
                turn = msgspec.structs.replace(turn, name=call.name, tool_call_id=call.id)
        found.append(turn)
    return tuple(found)


def _message(message: MessageBody, number: int) -> ChatMessage:
    path = f"messages[{number}]"
    if not message.role:
        raise InvalidRequest(f"'{path}.role' is empty. Use system, user, assistant or tool.", param=f"{path}.role")
    calls = tuple(
        ToolCall(
            call.id or f"call_{number}_{place}",
            call.function.name,
            object_text(call.function.arguments, f"{path}.tool_calls[{place}].function.arguments")
            if is_given(call.function.arguments)
            else "{}",
        )
        for place, call in enumerate(message.tool_calls or ())
    )
    return ChatMessage(
        message.role,
        message.content or "",
        name=message.tool_name or "",
        reasoning=message.thinking or "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id or "",
        media=_media(message.images),
    )


def _media(images: list[bytes] | None) -> tuple[Media, ...]:
    return tuple(Media("image", image) for image in images or ())


def _unsupported(param: str) -> Unsupported:
    message = f"'{param}' is not supported by this version yet. Send the request without it."
    return Unsupported(message, code="unsupported_field", param=param)
