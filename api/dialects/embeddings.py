"""OpenAI's embeddings: body to request, vectors to answer (pure).

Source: OpenAI's API reference; LocalAI's ``messages``, which embeds a conversation, and ``pooling``. Vectors come in
the order of the inputs, whatever their kind.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from struct import unpack

from localai.api.dialects.chat_messages import read_messages
from localai.api.dialects.completions import token_input
from localai.api.dialects.media_parts import Fetched
from localai.api.schemas.openai_requests import EmbeddingBody
from localai.api.schemas.openai_responses import EmbeddingItem, EmbeddingList, EmbeddingUsage
from localai.mesh.errors import InvalidRequest, Unsupported, UpstreamFailed
from localai.node.inference import (
    MAX_INPUTS,
    ChatInput,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    Progress,
    Prompt,
    RequestId,
    TextInput,
    Usage,
)

MAX_DIMENSIONS = 1 << 16
_POOLINGS = ("", "backend", "mean", "last", "decayed_mean")
_OWN_POOLING = ("", "backend")
_FLOAT_BYTES = 4
_NOTHING_FETCHED: Mapping[str, bytes] = {}


def parse_embedding(
    body: EmbeddingBody,
    request_id: RequestId,
    model: str,
    fetched: Fetched = _NOTHING_FETCHED,
    *,
    local_only: bool = False,
) -> EmbedRequest:
    """The request a body stands for. ``fetched`` has what its messages name by URL (``media_urls``).

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that nothing here can do.
    """
    _check_pooling(body)
    if body.encoding_format not in (None, "float", "base64"):
        message = f"'encoding_format' is '{body.encoding_format[:50]}'. Use float or base64."
        raise InvalidRequest(message, param="encoding_format")
    if body.dimensions is not None and not 1 <= body.dimensions <= MAX_DIMENSIONS:
        message = f"'dimensions' must be between 1 and {MAX_DIMENSIONS}, not {body.dimensions}."
        raise InvalidRequest(message, param="dimensions")
    if body.messages is None:
        inputs = _inputs(body.input)
    elif body.input is None:
        inputs = (ChatInput(read_messages(body.messages, fetched)),)
    else:
        raise InvalidRequest(
            "input and messages are mutually exclusive: send the conversation via messages, "
            "or plain text/tokens via input",
            param="messages",
        )
    if len(inputs) > MAX_INPUTS:
        message = f"'input' has {len(inputs)} texts; at most {MAX_INPUTS} are allowed. Send them in several requests."
        raise InvalidRequest(message, param="input")
    return EmbedRequest(request_id, model, inputs, body.dimensions, local_only=local_only)


def _check_pooling(body: EmbeddingBody) -> None:
    pooling = body.pooling or ""
    if pooling not in _POOLINGS:
        expected = ", ".join(name for name in _POOLINGS if name)
        raise InvalidRequest(f'unknown pooling "{pooling[:50]}" (expected {expected})', param="pooling")
    half_life = body.pooling_half_life_tokens or 0
    if half_life < 0 or (half_life and pooling != "decayed_mean"):
        message = "'pooling_half_life_tokens' must be at least 0, and needs 'pooling' to be decayed_mean."
        raise InvalidRequest(message, param="pooling_half_life_tokens")
    if pooling not in _OWN_POOLING:
        message = f"The pooling '{pooling}' is not supported: a model's own is used. Send the request without it."
        raise Unsupported(message, code="unsupported_field", param="pooling")


def _inputs(given: str | list[str | int | list[str | int]] | None) -> tuple[Prompt, ...]:
    if isinstance(given, list) and given and all(isinstance(item, int) for item in given):
        return (token_input([item for item in given if isinstance(item, int)], "input"),)
    items = [given] if isinstance(given, str) else given or []
    inputs = [prompt for place, item in enumerate(items) for prompt in _item(item, place, alone=item is given)]
    if not inputs:
        raise InvalidRequest("'input' is empty. Send some text.", param="input")
    return tuple(inputs)


def _item(item: str | int | list[str | int], place: int, *, alone: bool) -> list[Prompt]:
    """What one item of ``input`` stands for: a text, token ids, or, as LocalAI takes it, several texts."""
    path = "input" if alone else f"input[{place}]"
    if isinstance(item, int):
        raise InvalidRequest(f"'{path}' is a number among texts. Send one kind of input.", param=path)
    if isinstance(item, str):
        texts, ids = [item], []
    else:
        texts = [each for each in item if isinstance(each, str)]
        ids = [each for each in item if isinstance(each, int)]
    if texts and ids:
        raise InvalidRequest(f"'{path}' mixes texts and token ids. Send one kind.", param=path)
    if not all(texts) or not (texts or ids):
        raise InvalidRequest(f"'{path}' is empty. Send some text.", param=path)
    return [TextInput(text) for text in texts] or [token_input(ids, path)]


def render_embeddings(
    events: Iterable[Event], request: EmbedRequest, created: int, encoding_format: str | None
) -> EmbeddingList:
    """The answer, from all events of a request that has succeeded.

    Raises:
        UpstreamFailed: there is not exactly one vector for each input.
    """
    vectors: dict[int, bytes] = {}
    usage = Usage(0, 0)
    for event in events:
        match event:
            case Embedded(index=index, vector=vector) if index not in vectors:
                vectors[index] = vector
            case Finished(usage=spent):
                usage = spent
            case Progress():
                pass
            case _:
                raise _nonsense()
    if sorted(vectors) != list(range(len(request.inputs))):
        raise _nonsense()
    return EmbeddingList(
        id=request.id,
        created=created,
        model=request.model,
        data=[
            EmbeddingItem(index=index, embedding=_written(vectors[index], encoding_format)) for index in sorted(vectors)
        ],
        usage=EmbeddingUsage(usage.prompt_tokens, usage.prompt_tokens),
    )


def _written(vector: bytes, encoding_format: str | None) -> tuple[float, ...] | str:
    if len(vector) % _FLOAT_BYTES:
        raise _nonsense()
    if encoding_format == "base64":
        return base64.b64encode(vector).decode()
    return unpack(f"<{len(vector) // _FLOAT_BYTES}f", vector)


def _nonsense() -> UpstreamFailed:
    return UpstreamFailed("The backend did not answer with one vector for each input. Try again.")
