"""What a request needs beyond plain text, and which backend can do it (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum

from localai.mesh.errors import Unsupported
from localai.node.inference import (
    ChatInput,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    Prompt,
    Request,
    RerankRequest,
    TokenizeRequest,
)


class Feature(StrEnum):
    """Something that not every backend can do. The value is what messages call it."""

    GENERATE = "text generation"
    TOOLS = "tools"
    CONSTRAINT = "structured output"
    LOGPROBS = "log probabilities"
    LOGIT_BIAS = "logit bias"
    MEDIA = "images and sounds in messages"
    EMBED = "embeddings"
    RERANK = "reranking"
    TOKENIZE = "tokenizing"


EVERYTHING = frozenset(Feature)
BACKEND_FEATURES: Mapping[str, frozenset[Feature]] = {
    "llama-cpp": frozenset({Feature.GENERATE, Feature.TOKENIZE}),
}
"""Backend -> what its worker does. Others join as their engines learn them."""
_PARAMETERS = {
    Feature.TOOLS: "tools",
    Feature.CONSTRAINT: "response_format",
    Feature.LOGPROBS: "logprobs",
    Feature.LOGIT_BIAS: "logit_bias",
    Feature.MEDIA: "messages",
}
"""The field of a generation that asks for it, in OpenAI's words."""


def needed_features(request: Request) -> frozenset[Feature]:
    """What a backend must be able to do to answer."""
    match request:
        case GenerateRequest():
            return _generation_features(request)
        case EmbedRequest():
            return frozenset({Feature.EMBED})
        case RerankRequest():
            return frozenset({Feature.RERANK})
        case TokenizeRequest(prompt=prompt) if prompt is not None:
            return frozenset({Feature.TOKENIZE}) | _prompt_features(prompt)
        case TokenizeRequest() | DetokenizeRequest():
            return frozenset({Feature.TOKENIZE})


def check_features(request: Request, offered: frozenset[Feature], backend: str) -> None:
    """Make sure that a backend can answer.

    Raises:
        Unsupported: it cannot; ``param`` names the field that asks for more, if one does.
    """
    check_needed(needed_features(request), offered, request.model, backend)


def check_needed(needed: Set[Feature], offered: Set[Feature], model: str, backend: str) -> None:
    """Make sure that a model's backend offers what is needed.

    Raises:
        Unsupported: see :func:`check_features`.
    """
    missing = sorted(needed - offered)
    if missing:
        first = missing[0]
        advice = "Send the request without it." if first in _PARAMETERS else "Use a model of another backend."
        message = f"The backend '{backend}' of model '{model[:100]}' cannot do {first} in this version. {advice}"
        raise Unsupported(message, code="unsupported_feature", param=_PARAMETERS.get(first))


def _generation_features(request: GenerateRequest) -> frozenset[Feature]:
    asked = {
        Feature.GENERATE: True,
        Feature.CONSTRAINT: request.constraint is not None,
        Feature.LOGPROBS: request.logprobs is not None,
        Feature.LOGIT_BIAS: bool(request.logit_bias),
    }
    return _prompt_features(request.prompt) | {feature for feature, is_asked in asked.items() if is_asked}


def _prompt_features(prompt: Prompt) -> frozenset[Feature]:
    if not isinstance(prompt, ChatInput):
        return frozenset()
    asked = {
        Feature.TOOLS: bool(prompt.tools),
        Feature.MEDIA: any(message.media for message in prompt.messages),
    }
    return frozenset(feature for feature, is_asked in asked.items() if is_asked)
