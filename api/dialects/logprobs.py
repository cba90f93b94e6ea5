"""Log probabilities of tokens: what is asked, and how chat and text completions show them (pure).

Source: OpenAI's API reference. Without ``top_logprobs`` chat shows no alternatives, as there; LocalAI shows one.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from localai.api.schemas.openai_requests import ChatBody
from localai.api.schemas.openai_responses import ChatLogprobs, DrawnToken, LikelyToken, TextLogprobs
from localai.mesh.errors import InvalidRequest
from localai.node.inference import MAX_TOP_LOGPROBS, TokenLogprob


def read_chat_logprobs(body: ChatBody) -> int | None:
    """How many alternatives come with each token; None for no probabilities at all.

    Raises:
        InvalidRequest: alternatives to nothing, or too many.
    """
    top = _checked(body.top_logprobs or 0, "top_logprobs")
    if body.logprobs:
        return top
    if top:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true. Send both.", param="top_logprobs")
    return None


def read_text_logprobs(value: bool | int | None) -> int | None:
    """The same for text completions, where one number says all; ``true``, which LocalAI takes too, is 1.

    Raises:
        InvalidRequest: too many alternatives.
    """
    return None if value is None or value is False else _checked(int(value), "logprobs")


def _checked(number: int, name: str) -> int:
    if not 0 <= number <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"'{name}' must be between 0 and {MAX_TOP_LOGPROBS}, not {number}.", param=name)
    return number


def render_chat_logprobs(logprobs: Iterable[TokenLogprob]) -> ChatLogprobs:
    """How chat shows them. A token that ends inside a character has a mark in its place; its bytes are exact."""
    return ChatLogprobs(
        tuple(
            DrawnToken(
                token=each.data.decode("utf-8", "replace"),
                bytes=tuple(each.data),
                logprob=each.logprob,
                top_logprobs=tuple(
                    LikelyToken(data.decode("utf-8", "replace"), tuple(data), logprob) for _, data, logprob in each.top
                ),
            )
            for each in logprobs
        )
    )


class TextPlaces:
    """Where the tokens of one continuation stand in its text. ``before`` counts the characters ahead of them."""

    def __init__(self, before: int) -> None:
        self._offset = before
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def render(self, logprobs: Iterable[TokenLogprob]) -> TextLogprobs:
        """How text completions show the next tokens."""
        tokens: list[str] = []
        numbers: list[float] = []
        tops: list[dict[str, float]] = []
        offsets: list[int] = []
        for each in logprobs:
            shown = _shown(each.data)
            tokens.append(shown)
            numbers.append(each.logprob)
            tops.append({_shown(data): logprob for _, data, logprob in each.top} | {shown: each.logprob})
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(each.data))
        return TextLogprobs(tokens, numbers, tops, offsets)


def _shown(data: bytes) -> str:
    """A token as text; ``bytes:\\xe2`` and the like when it is not a whole one, as OpenAI writes it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def mean_logprob(logprobs: list[TokenLogprob]) -> float:
    """How likely a continuation is for each of its tokens; a continuation without tokens is certain."""
    return sum(each.logprob for each in logprobs) / len(logprobs) if logprobs else 0.0
