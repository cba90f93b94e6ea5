"""How long a candidate would take for a request (pure).

Expected finish = wait for a slot + load of the model + prompt + answer + round trip, in seconds. Nodes that were not
measured yet are taken to be as fast as the fastest one that was, so that they are tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from localai.node.inference import (
    ChatInput,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    Prompt,
    Request,
    RerankRequest,
    TextInput,
    TokenInput,
    TokenizeRequest,
)
from localai.node.routing.replica import Candidate, Work

UNMEASURED_PROMPT_TPS = 300.0
UNMEASURED_DECODE_TPS = 30.0
UNMEASURED_LOAD_S = 5.0
COST_OF_NEIGHBOUR = 0.8
"""How much slower a stream becomes for each stream computed beside it; 1 is sharing, 0 would be for free. Measured with
one CPU thread: 4 streams take 4.1 times as long each, 16 take 12.6 times (docs/bench, engine)."""
DEFAULT_OUTPUT_TOKENS = 256
"""Length of an answer whose request sets no limit."""
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """The parts of an expected finish, in seconds."""

    wait_s: float
    load_s: float
    prompt_s: float
    decode_s: float
    round_trip_s: float

    @property
    def total_s(self) -> float:
        """Seconds until the answer is complete."""
        return self.wait_s + self.load_s + self.prompt_s + self.decode_s + self.round_trip_s


@dataclass(frozen=True, slots=True)
class Speeds:
    """What an unmeasured candidate is taken for."""

    prompt_tps: float
    decode_tps: float


def work_of(request: Request) -> Work:
    """The size of a request, from its text: nobody has tokenized it yet."""
    match request:
        case GenerateRequest():
            output = min(request.max_tokens or DEFAULT_OUTPUT_TOKENS, 4 * DEFAULT_OUTPUT_TOKENS)
            return Work(_prompt_tokens(request.prompt) + 1, output * request.choices)
        case EmbedRequest(inputs=inputs):
            return Work(sum(map(_prompt_tokens, inputs)) + 1, 0)
        case RerankRequest(query=query, documents=documents):
            texts = len(query) * len(documents) + sum(map(len, documents))
            return Work(texts // CHARS_PER_TOKEN + 1, 0)
        case TokenizeRequest() | DetokenizeRequest():
            return Work(1, 0)


def _prompt_tokens(prompt: Prompt) -> int:
    match prompt:
        case ChatInput(messages=messages):
            return sum(len(message.content) for message in messages) // CHARS_PER_TOKEN + 4 * len(messages)
        case TextInput(text=text):
            return len(text) // CHARS_PER_TOKEN
        case TokenInput(ids=ids):
            return len(ids)


def best_speeds(candidates: Iterable[Candidate]) -> Speeds:
    """The greatest measured speeds, or the defaults when nothing was measured."""
    loads = [candidate.load for candidate in candidates]
    return Speeds(
        max((load.prompt_tps for load in loads), default=0.0) or UNMEASURED_PROMPT_TPS,
        max((load.decode_tps for load in loads), default=0.0) or UNMEASURED_DECODE_TPS,
    )


def slowdown(streams: int) -> float:
    """How many times longer a stream takes when so many are computed together; 1 for one."""
    return 1.0 + COST_OF_NEIGHBOUR * (max(1, streams) - 1)


def estimate(candidate: Candidate, work: Work, unmeasured: Speeds) -> Estimate:
    """When this candidate would be done with ``work``, if it began now."""
    load = candidate.load
    slots = max(1, load.slots)
    prompt_s = work.prompt_tokens / (load.prompt_tps or unmeasured.prompt_tps)
    streams = min(candidate.in_flight + 1, slots)
    decode_s = work.output_tokens / (load.decode_tps or unmeasured.decode_tps) * slowdown(streams)
    # Those who wait are taken to want as much as this request does.
    waiting = max(0, candidate.in_flight + 1 - slots)
    return Estimate(
        wait_s=waiting / slots * (prompt_s + decode_s),
        load_s=0.0 if load.loaded else load.load_s or UNMEASURED_LOAD_S,
        prompt_s=prompt_s,
        decode_s=decode_s,
        round_trip_s=candidate.round_trip_s,
    )


def estimates(candidates: Sequence[Candidate], work: Work) -> list[Estimate]:
    """One estimate for each candidate, in order."""
    unmeasured = best_speeds(candidates)
    return [estimate(candidate, work, unmeasured) for candidate in candidates]
