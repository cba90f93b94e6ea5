"""Made-up results of a fake worker: the same ones for the same request, and sensible to look at (pure)."""

from __future__ import annotations

import hashlib
from array import array

from localai.mesh.errors import InvalidRequest
from localai.node.inference import (
    ChatInput,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    Prompt,
    RerankRequest,
    Scored,
    TextInput,
    TokenInput,
    Tokenized,
    TokenizeRequest,
    TokenLogprob,
    Usage,
)

DIMENSIONS = 16


def fake_result(request: EmbedRequest | RerankRequest | TokenizeRequest | DetokenizeRequest) -> list[Event]:
    """The events of a request that generates nothing. Every byte is a token.

    Raises:
        InvalidRequest: a token id is no byte.
    """
    match request:
        case EmbedRequest(inputs=inputs, dimensions=dimensions):
            texts = [_bytes_of(prompt) for prompt in inputs]
            vectors = [Embedded(index, fake_vector(text, dimensions)) for index, text in enumerate(texts)]
            return [*vectors, Finished((), Usage(sum(map(len, texts)), 0))]
        case RerankRequest(query=query, documents=documents):
            spent = sum(len(query.encode()) + len(document.encode()) for document in documents)
            scores = tuple(_shared_words(query, document) for document in documents)
            return [Scored(scores), Finished((), Usage(spent, 0))]
        case TokenizeRequest(text=text, prompt=prompt):
            ids = tuple(_bytes_of(prompt or TextInput(text)))
            return [Tokenized(ids), Finished((), Usage(len(ids), 0))]
        case DetokenizeRequest(ids=ids):
            return [Detokenized(_bytes_of(TokenInput(ids))), Finished((), Usage(len(ids), 0))]


def fake_vector(text: bytes, dimensions: int | None = None) -> bytes:
    """Numbers from -1 to 1 that depend on the text, as little-endian float32."""
    digest = hashlib.sha256(text).digest()
    return array("f", [byte / 127.5 - 1 for byte in digest[: dimensions or DIMENSIONS]]).tobytes()


def fake_logprob(token: int, top: int) -> TokenLogprob:
    """A likely token, with the ones after it in the alphabet as alternatives."""
    alternatives = tuple(((token + step) % 256, bytes([(token + step) % 256]), -0.125 - step) for step in range(top))
    return TokenLogprob(token, bytes([token % 256]), -0.125, alternatives)


def _bytes_of(prompt: Prompt) -> bytes:
    match prompt:
        case ChatInput(messages=messages):
            return "".join(f"{message.role}: {message.content}\n" for message in messages).encode()
        case TextInput(text=text):
            return text.encode()
        case TokenInput(ids=ids):
            if any(not 0 <= token < 256 for token in ids):
                raise InvalidRequest("A token id is outside this model's vocabulary (0 to 255).", param="tokens")
            return bytes(ids)


def _shared_words(query: str, document: str) -> float:
    """Share of the query's words that are in the document, 0 to 1."""
    words = set(query.lower().split())
    return len(words & set(document.lower().split())) / len(words) if words else 0.0
