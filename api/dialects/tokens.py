"""LocalAI's tokenize and detokenize: bodies to requests, events to answers (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from localai.api.schemas.tokens import DetokenizeBody, DetokenizeResponse, TokenizeBody, TokenizeResponse
from localai.mesh.errors import InvalidRequest
from localai.node.inference import (
    Detokenized,
    DetokenizeRequest,
    Event,
    RequestId,
    Tokenized,
    TokenizeRequest,
)

MAX_TOKEN_ID = 2**31 - 1


def parse_tokenize(body: TokenizeBody, request_id: RequestId, model: str, *, local_only: bool) -> TokenizeRequest:
    """The request a body stands for; no content at all is an empty one."""
    return TokenizeRequest(request_id, model, body.content, local_only=local_only)


def render_tokenize(events: Iterable[Event]) -> TokenizeResponse:
    """All ids in one answer."""
    return TokenizeResponse([token for event in events if isinstance(event, Tokenized) for token in event.ids])


def parse_detokenize(body: DetokenizeBody, request_id: RequestId, model: str, *, local_only: bool) -> DetokenizeRequest:
    """The request a body stands for. Whether the model has such ids is the backend's to say.

    Raises:
        InvalidRequest: a number can be no token of any model.
    """
    for place, token in enumerate(body.tokens):
        if not 0 <= token <= MAX_TOKEN_ID:
            path = f"tokens[{place}]"
            message = f"'{path}' is {str(token)[:30]}, which is no token id. Send ids that /v1/tokenize gave."
            raise InvalidRequest(message, param=path)
    return DetokenizeRequest(request_id, model, tuple(body.tokens), local_only=local_only)


def render_detokenize(events: Iterable[Event]) -> DetokenizeResponse:
    """The text; bytes that make no whole character are shown as U+FFFD."""
    data = b"".join(event.data for event in events if isinstance(event, Detokenized))
    return DetokenizeResponse(data.decode("utf-8", "replace"))
