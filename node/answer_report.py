"""How one answer went, told once at its end (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from localai.node.inference import GenerateRequest, Usage

if TYPE_CHECKING:
    from localai.node.inference import Request

NO_USAGE = Usage(0, 0)


class Outcome(StrEnum):
    """How an answer ended."""

    FINISHED = "finished"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Whoever asked has left."""


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """One answer of one model. Times in seconds; ``first_token_s`` and ``token_gap_s`` are None where there is none."""

    model: str
    outcome: Outcome
    total_s: float
    first_token_s: float | None = None
    """From the request until its first token."""
    token_gap_s: float | None = None
    """Mean time between two tokens of one choice."""
    usage: Usage = NO_USAGE


def token_gap_s(request: Request, usage: Usage, decoding_s: float) -> float | None:
    """Mean time between two tokens of one choice, when all choices together took ``decoding_s`` from first to last."""
    choices = request.choices if isinstance(request, GenerateRequest) else 1
    gaps = usage.completion_tokens - choices
    return decoding_s * choices / gaps if gaps > 0 else None
