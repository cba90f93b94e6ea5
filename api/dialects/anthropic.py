"""Anthropic's messages: bodies to requests (pure). Source: Anthropic's API reference.

A thinking budget is taken as a wish: nothing here can hold a model to it. Token counts are estimates: the worker
renders the conversation, and is asked here only about its texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from localai.api.dialects.anthropic_answer import MessageForm, Thinking
from localai.api.dialects.anthropic_content import read_conversation
from localai.api.dialects.anthropic_tools import eager_tools, read_tool_use
from localai.api.dialects.generation import MAX_STOP_CHARS, refuse
from localai.api.dialects.media_parts import Fetched
from localai.api.dialects.raw_json import is_given, object_text
from localai.api.schemas.anthropic_requests import FormatBody, MessagesBody, PromptBody, ThinkingBody
from localai.api.schemas.anthropic_responses import TokenCount
from localai.mesh.errors import InvalidRequest
from localai.node.inference import (
    MAX_STOP_STRINGS,
    ChatInput,
    Event,
    GenerateRequest,
    JsonSchema,
    RequestId,
    Sampling,
    Tokenized,
    TokenizeRequest,
)
from localai.node.request_defaults import MAX_TOKENS, NO_DEFAULTS, RANGES, RequestDefaults, sampling_from

MAX_TOKENS_NEEDED = "max_tokens is required and must be greater than 0"
_NUMBERS = ("temperature", "top_p", "top_k")
_THINKING = frozenset({"enabled", "adaptive", "between_tools"})
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_NOTHING_FETCHED: Fetched = {}


def parse_messages(
    body: MessagesBody,
    request_id: RequestId,
    model: str,
    defaults: RequestDefaults = NO_DEFAULTS,
    fetched: Fetched = _NOTHING_FETCHED,
) -> GenerateRequest:
    """The request a body stands for; what it does not say is as in ``defaults``.

    ``fetched`` has what its messages name by URL (``image_urls``).

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that nothing here can do.
        TooLarge: a picture is too large.
    """
    refuse({"container": is_given(body.container), "mcp_servers": body.mcp_servers})
    if body.max_tokens is None or body.max_tokens < 1:
        raise InvalidRequest(MAX_TOKENS_NEEDED, param="max_tokens")
    prompt = _prompt(body, fetched, _effort(body))
    if prompt.messages[-1].role == "assistant":
        message = "The last message is the assistant's, and an answer cannot be begun for a model here."
        raise InvalidRequest(f"{message} End with a user message.", code="prefill_not_supported", param="messages")
    return GenerateRequest(
        id=request_id,
        model=model,
        prompt=prompt,
        sampling=_sampling(body, defaults.sampling),
        max_tokens=min(body.max_tokens, MAX_TOKENS),
        stop=_stop(body.stop_sequences or ()),
        ignore_eos=defaults.ignore_eos,
        constraint=_constraint(body),
    )


def message_form(body: MessagesBody, betas: str = "") -> MessageForm:
    """How the answer to a body is shown. ``betas`` is the header ``anthropic-beta``."""
    return MessageForm(_shown(body.thinking), eager_tools(body.tools, betas))


def parse_count(
    body: PromptBody, request_id: RequestId, model: str, *, local_only: bool, fetched: Fetched = _NOTHING_FETCHED
) -> TokenizeRequest:
    """What to ask the worker to know how many tokens a prompt has.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: it asks for something that nothing here can do.
    """
    return TokenizeRequest(request_id, model, "", local_only=local_only, prompt=_prompt(body, fetched))


def render_count(events: Iterable[Event]) -> TokenCount:
    """How many tokens the prompt has, with what the template adds."""
    return TokenCount(sum(len(event.ids) for event in events if isinstance(event, Tokenized)))


def _prompt(body: PromptBody, fetched: Fetched, effort: str = "") -> ChatInput:
    use = read_tool_use(body.tools, body.tool_choice)
    return ChatInput(
        messages=read_conversation(body.system, body.messages, fetched),
        tools=use.tools,
        tool_choice=use.mode,
        only_tool=use.only_tool,
        parallel_tool_calls=use.parallel,
        reasoning_effort=effort,
    )


def _effort(body: MessagesBody) -> str:
    """How much to think: ``none`` when it is turned off."""
    thinking = body.thinking
    if thinking is not None:
        _check_thinking(thinking, body.max_tokens or 0)
        if thinking.type == "disabled":
            return "none"
    effort = body.output_config.effort if body.output_config is not None else None
    if effort is None:
        return ""
    if effort not in _EFFORTS:
        message = f"'output_config.effort' is '{effort[:50]}'. Use {', '.join(_EFFORTS)}."
        raise InvalidRequest(message, param="output_config.effort")
    return effort


def _check_thinking(thinking: ThinkingBody, max_tokens: int) -> None:
    if thinking.type not in (*_THINKING, "disabled"):
        message = f"'thinking.type' is '{thinking.type[:50]}'. Use enabled, adaptive or disabled."
        raise InvalidRequest(message, param="thinking.type")
    if thinking.display not in (None, "summarized", "omitted"):
        message = f"'thinking.display' is '{thinking.display[:50]}'. Use summarized or omitted."
        raise InvalidRequest(message, param="thinking.display")
    if thinking.type != "enabled":
        return
    path = "thinking.budget_tokens"
    if thinking.budget_tokens is None:
        raise InvalidRequest(f"'{path}' is missing. Add it.", code="missing_field", param=path)
    if not 0 < thinking.budget_tokens < max_tokens:
        message = f"'{path}' must be at least 1 and less than 'max_tokens', not {thinking.budget_tokens}."
        raise InvalidRequest(message, param=path)


def _shown(thinking: ThinkingBody | None) -> Thinking:
    if thinking is None or thinking.type not in _THINKING:
        return "hidden"
    return "omitted" if thinking.display == "omitted" else "shown"


def _sampling(body: MessagesBody, default: Sampling) -> Sampling:
    said: Mapping[str, float | None] = {name: getattr(body, name) for name in _NUMBERS}
    for name, value in said.items():
        least, greatest = RANGES[name]
        if value is not None and not least <= value <= greatest:
            raise InvalidRequest(f"'{name}' must be between {least} and {greatest}, not {value}.", param=name)
    return sampling_from(said, default)


def _stop(texts: Iterable[str]) -> tuple[str, ...]:
    stops = tuple(filter(None, texts))
    if len(stops) > MAX_STOP_STRINGS:
        message = f"'stop_sequences' has {len(stops)} strings; at most {MAX_STOP_STRINGS} are allowed."
        raise InvalidRequest(message, param="stop_sequences")
    if any(len(text) > MAX_STOP_CHARS for text in stops):
        message = f"A string in 'stop_sequences' is longer than {MAX_STOP_CHARS} characters. Send a shorter one."
        raise InvalidRequest(message, param="stop_sequences")
    return stops


def _constraint(body: MessagesBody) -> JsonSchema | None:
    """What the answer must look like: ``output_config.format``, or ``output_format`` of older clients."""
    config = body.output_config
    given: Mapping[str, FormatBody | None] = {
        "output_config.format": config.format if config is not None else None,
        "output_format": body.output_format,
    }
    for path, wanted in given.items():
        if wanted is None:
            continue
        if wanted.type != "json_schema":
            message = f"'{path}.type' is '{wanted.type[:50]}'. Use json_schema."
            raise InvalidRequest(message, param=f"{path}.type")
        return JsonSchema(object_text(wanted.schema, f"{path}.schema"))
    return None
