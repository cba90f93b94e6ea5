"""What is made of a peer's words before they are believed (pure).

Members hold the token; that makes them neither free of mistakes nor of malice. Numbers are brought into a range that
routing can compute with, texts into a form that logs and clients can show, and what would harm a worker or fill the
memory is refused. The same rules hold for what this node says, so that honest nodes lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from localai.mesh.errors import InvalidRequest, WireError
from localai.node.inference import (
    MAX_CHOICES,
    MAX_INPUTS,
    MAX_LOGIT_BIAS,
    MAX_STOP_STRINGS,
    MAX_TOP_LOGPROBS,
    SEEDS,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Request,
    RerankRequest,
    Scored,
    Started,
    TokenizeRequest,
    Tokens,
)
from localai.node.model_config import MAX_CONTEXT_SIZE, MAX_NAME_CHARS, MAX_SLOTS
from localai.node.request_defaults import MAX_TOKENS, RequestDefaults
from localai.node.routing.replica import ReplicaLoad

MAX_REPLICAS = 256
"""Models of one node that others take notice of."""
MAX_ID_CHARS = 64
"""Of a request id: every event carries it."""
MAX_EVENT_BYTES = 16 << 10
"""Bytes in one ``Tokens`` event, and ids in it: with the limit of unread events it bounds what an answer can hold."""
MAX_STOP_CHARS = 1000
_MAX_TEXT_CHARS = 256
_MAX_MESSAGE_CHARS = 2000
_MAX_REQUESTS = 1_000_000
_MAX_SECONDS = 3600.0
_LEAST_TPS = 1e-3
_MOST_TPS = 1e7

_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 10.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}
"""Of a request's ``Sampling``: what every dialect promises too."""


def is_model_name(name: str) -> bool:
    """True for what a definition may call a model."""
    return 0 < len(name) <= MAX_NAME_CHARS and name.isprintable() and name == name.strip()


def shown_text(text: str, limit: int = _MAX_TEXT_CHARS) -> str:
    """The beginning of a text, with blanks in place of line ends and control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:limit])


def believed_replicas(replicas: Iterable[ReplicaLoad]) -> tuple[ReplicaLoad, ...]:
    """The first :data:`MAX_REPLICAS` models that have a usable name of their own, with numbers in range."""
    found: dict[str, ReplicaLoad] = {}
    for replica in replicas:
        if len(found) == MAX_REPLICAS:
            break
        if replica.model not in found and is_model_name(replica.model):
            found[replica.model] = _in_range(replica)
    return tuple(found.values())


def _in_range(load: ReplicaLoad) -> ReplicaLoad:
    active = _clamp(load.active, 0, _MAX_REQUESTS)
    return msgspec.structs.replace(
        load,
        context_size=_clamp(load.context_size, 0, MAX_CONTEXT_SIZE),
        slots=_clamp(load.slots, 1, MAX_SLOTS),
        active=active,
        yours=_clamp(load.yours, 0, active),
        load_s=min(load.load_s, _MAX_SECONDS) if load.load_s > 0 else 0.0,
        prompt_tps=_speed(load.prompt_tps),
        decode_tps=_speed(load.decode_tps),
    )


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _speed(value: float) -> float:
    """0, not measured, for what is no speed."""
    return max(_LEAST_TPS, min(value, _MOST_TPS)) if value > 0 else 0.0


def check_request_id(request: Request) -> None:
    """Make sure that the request can be answered at all.

    Raises:
        WireError: its id is too long.
    """
    if len(request.id) > MAX_ID_CHARS:
        raise WireError(f"A request id has {len(request.id)} characters; at most {MAX_ID_CHARS} are allowed.")


def check_request(request: Request) -> None:
    """Make sure that nothing in a request can harm a worker. The prompt itself is the worker's to judge.

    Raises:
        InvalidRequest: something is out of range; ``param`` names it.
    """
    match request:
        case GenerateRequest():
            _check_generation(request)
        case EmbedRequest():
            _check(len(request.inputs) <= MAX_INPUTS, "input")
            _check(request.dimensions is None or request.dimensions >= 1, "dimensions")
        case RerankRequest():
            _check(len(request.documents) <= MAX_INPUTS, "documents")
        case TokenizeRequest() | DetokenizeRequest():
            pass
    _check(0 <= request.weight < math.inf, "weight")
    _check(request.deadline_s is None or -math.inf < request.deadline_s < math.inf, "deadline_s")


def _check_generation(request: GenerateRequest) -> None:
    for name, (least, most) in _RANGES.items():
        _check(least <= getattr(request.sampling, name) <= most, name)
    _check(request.sampling.seed is None or 0 <= request.sampling.seed < SEEDS, "seed")
    _check(request.max_tokens is None or request.max_tokens >= 1, "max_tokens")
    _check(1 <= request.choices <= MAX_CHOICES, "choices")
    _check(
        len(request.stop) <= MAX_STOP_STRINGS and all(0 < len(text) <= MAX_STOP_CHARS for text in request.stop), "stop"
    )
    _check(request.logprobs is None or 0 <= request.logprobs <= MAX_TOP_LOGPROBS, "logprobs")
    _check(all(token >= 0 and abs(bias) <= MAX_LOGIT_BIAS for token, bias in request.logit_bias), "logit_bias")


def believed_defaults(defaults: RequestDefaults | None) -> RequestDefaults | None:
    """The defaults of a peer's model; None when one of them is out of range."""
    if defaults is None:
        return None
    sampling, max_tokens = defaults.sampling, defaults.max_tokens
    is_good = (
        all(least <= getattr(sampling, name) <= most for name, (least, most) in _RANGES.items())
        and (sampling.seed is None or 0 <= sampling.seed < SEEDS)
        and (max_tokens is None or 1 <= max_tokens <= MAX_TOKENS)
        and 1 <= defaults.choices <= MAX_CHOICES
    )
    return defaults if is_good else None


def _check(is_good: bool, name: str) -> None:
    if not is_good:
        raise InvalidRequest(
            f"'{name}' is out of range. The node that sent the request should have seen it.", param=name
        )


def believed_event(event: Event) -> Event:
    """The event, with a failure made fit to be shown.

    Raises:
        WireError: it is larger than anything a worker produces, or counts less than nothing.
    """
    match event:
        case Tokens(ids=ids, data=data, logprobs=logprobs):
            if max(len(data), len(ids), len(logprobs)) > MAX_EVENT_BYTES:
                raise WireError("An event holds more tokens than one step can give.")
            if any(len(each.top) > MAX_TOP_LOGPROBS for each in logprobs):
                raise WireError("A token has more alternatives than can be asked for.")
        case Embedded(index=index):
            if not 0 <= index < MAX_INPUTS:
                raise WireError("A vector is one of no input.")
        case Scored(scores=scores):
            if len(scores) > MAX_INPUTS or not all(map(math.isfinite, scores)):
                raise WireError("The scores of documents are more than there can be, or no numbers.")
        case Started(prompt_digest=digest, template_id=template, parser_id=parser):
            if max(len(digest), len(template), len(parser)) > _MAX_TEXT_CHARS:
                raise WireError("An event names a template or a parser at too great length.")
        case Finished(reasons=reasons, usage=usage):
            if len(reasons) > MAX_CHOICES:
                raise WireError("An answer ends with more choices than there can be.")
            if min(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) < 0:
                raise WireError("An answer has used less than no tokens.")
        case Failed():
            return _shown_failure(event)
    return event


def _shown_failure(failed: Failed) -> Failed:
    retry_after_s = failed.retry_after_s
    return Failed(
        failed.category,
        shown_text(failed.code),
        shown_text(failed.message, _MAX_MESSAGE_CHARS),
        None if failed.param is None else shown_text(failed.param),
        None if retry_after_s is None or not retry_after_s >= 0 else min(retry_after_s, _MAX_SECONDS),
    )
