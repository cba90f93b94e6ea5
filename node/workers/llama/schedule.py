"""Which tokens the engine computes in the next step, and what the sampled ones mean (pure).

Continuous batching: one step carries the last token of every generating sequence and, in the room that is left,
pieces of new prompts. A *slot* is one sequence of the context, with its own part of the KV cache; a finished slot
keeps its ids, so that a prompt with the same beginning starts from there.

The engine's loop is::

    for trim in schedule.admit(now):        # give waiting sequences a slot
        schedule.trimmed(trim.slot, kept)   # ids whose KV the engine could keep
    step = schedule.plan()
    ... decode step.chunks, sample a token for each chunk with ``wants_token`` ...
    events = schedule.advance(step, tokens, now)
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.inference import (
    SEEDS,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Progress,
    RequestId,
    Sampling,
    Started,
    Timings,
    Tokens,
    Usage,
    failed_from_error,
)
from localai.node.stop_strings import StopMatcher

Ids = npt.NDArray[np.int32]
EventList = list[tuple[RequestId, Event]]

STEP_TOKENS = 512
"""Most tokens in one step; the engine's batch size."""
SHARED_PROMPT_TOKENS = 128
"""Most prompt tokens in a step that also generates: what running streams wait for a newcomer at each token."""


class Vocabulary(Protocol):
    """What the schedule asks about tokens."""

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for."""

    def is_end(self, token: int) -> bool:
        """True for a token that ends the model's turn."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget the KV of ``slot`` after its first ``keep`` ids. Answered by :meth:`Schedule.trimmed`."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Ids of one slot to compute, from ``position`` on. ``wants_token``: sample after the last one."""

    slot: int
    ids: Ids
    position: int
    wants_token: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the engine. At most :data:`STEP_TOKENS` ids in all chunks."""

    chunks: tuple[Chunk, ...]


@dataclass(slots=True)
class _Request:
    """What the choices of one request share."""

    request: GenerateRequest
    prompt: Ids
    template_id: str
    submitted: float
    reasons: list[FinishReason | None]
    started: float | None = None
    first_token: float | None = None
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True)
class _Sequence:
    """One choice of one request, waiting or in a slot."""

    owner: _Request
    choice: int
    stops: StopMatcher
    produced: int = 0
    next_token: int | None = None


@dataclass(slots=True)
class _Slot:
    index: int
    ids: Ids
    filled: int = 0
    """Ids of the beginning whose KV is in the cache."""
    sequence: _Sequence | None = None
    last_used: float = -1.0


class Schedule:
    """Sequences, slots and the queue before them."""

    def __init__(self, slots: int, context_size: int, vocabulary: Vocabulary) -> None:
        self._context_size = context_size
        self._vocabulary = vocabulary
        self._slots = [_Slot(index, np.zeros(context_size, np.int32)) for index in range(slots)]
        self._queue: deque[_Sequence] = deque()
        self._requests: dict[RequestId, _Request] = {}
        self.prompt_tokens_total = 0
        self.completion_tokens_total = 0

    @property
    def active(self) -> int:
        """Sequences in slots."""
        return sum(slot.sequence is not None for slot in self._slots)

    @property
    def queued(self) -> int:
        """Sequences waiting for a slot."""
        return len(self._queue)

    def request_in(self, slot: int) -> GenerateRequest:
        """The request whose sequence is in ``slot``."""
        sequence = self._slots[slot].sequence
        assert sequence is not None
        return sequence.owner.request

    def sampling_in(self, slot: int) -> Sampling:
        """How the sequence in ``slot`` draws its tokens. Further choices of a seeded request get seeds of their own."""
        sequence = self._slots[slot].sequence
        assert sequence is not None
        sampling = sequence.owner.request.sampling
        if sampling.seed is None or sequence.choice == 0:
            return sampling
        return msgspec.structs.replace(sampling, seed=(sampling.seed + sequence.choice) % SEEDS)

    def vacated(self, slots: Iterable[int]) -> list[int]:
        """Those of ``slots`` that hold no sequence."""
        return [slot for slot in slots if self._slots[slot].sequence is None]

    # In

    def submit(self, request: GenerateRequest, prompt: Ids, template_id: str, now: float) -> EventList:
        """Queue a request whose prompt has been turned into ids."""
        if request.id in self._requests:
            return []
        if not len(prompt):
            error = InvalidRequest("The prompt is empty. Send at least one token of text.", param="prompt")
            return [(request.id, failed_from_error(error))]
        if len(prompt) >= self._context_size:
            return [(request.id, failed_from_error(self._too_long(len(prompt))))]
        owner = _Request(request, prompt, template_id, now, [None] * request.choices)
        self._requests[request.id] = owner
        for choice in range(request.choices):
            self._queue.append(_Sequence(owner, choice, StopMatcher(request.stop)))
        return [(request.id, Progress("queued", len(self._queue), len(self._queue)))]

    def _too_long(self, length: int) -> LocalAIError:
        return InvalidRequest(
            f"The prompt has {length} tokens, but this model's context holds {self._context_size}, answer included. "
            "Shorten the prompt, or start the node with a larger --context-size.",
            code="context_length_exceeded",
        )

    def cancel(self, request_id: RequestId) -> list[int]:
        """Forget a request; get the slots that became free. No events come for it any more."""
        owner = self._requests.pop(request_id, None)
        if owner is None:
            return []
        self._queue = deque(sequence for sequence in self._queue if sequence.owner is not owner)
        freed = [slot for slot in self._slots if slot.sequence is not None and slot.sequence.owner is owner]
        for slot in freed:
            slot.sequence = None
        return [slot.index for slot in freed]

    def fail_all(self, error: LocalAIError) -> EventList:
        """Drop everything, in slots and in the queue, and forget all cached ids."""
        events: EventList = [(request_id, failed_from_error(error)) for request_id in self._requests]
        self._requests.clear()
        self._queue.clear()
        for slot in self._slots:
            slot.sequence = None
            slot.filled = 0
        return events

    # Admission

    def admit(self, now: float) -> list[Trim]:
        """Put waiting sequences into free slots, oldest first, each where most of its prompt is cached already."""
        trims: list[Trim] = []
        free = [slot for slot in self._slots if slot.sequence is None]
        while self._queue and free:
            sequence = self._queue.popleft()
            prompt = sequence.owner.prompt
            shared = {slot.index: _shared_prefix(slot, prompt) for slot in free}
            best = min(free, key=lambda slot: (-shared[slot.index], slot.filled > 0, slot.last_used))
            free.remove(best)
            best.sequence = sequence
            best.last_used = now
            if sequence.owner.started is None:
                sequence.owner.started = now
            # At least one id is computed anew: sampling needs its logits.
            trims.append(Trim(best.index, min(shared[best.index], len(prompt) - 1)))
        return trims

    def trimmed(self, slot: int, kept: int) -> EventList:
        """The engine has forgotten all but the first ``kept`` ids of ``slot``; its sequence begins."""
        place = self._slots[slot]
        place.filled = kept
        sequence = place.sequence
        assert sequence is not None
        if sequence.choice:
            return []
        owner = sequence.owner
        owner.cached_tokens = kept
        digest = hashlib.sha256(owner.prompt.astype("<i4").tobytes()).hexdigest()
        started = Started(digest, len(owner.prompt), kept, owner.template_id)
        return [(owner.request.id, started)]

    # Steps

    def plan(self) -> Step | None:
        """What to compute now; None when no slot is occupied."""
        chunks = [
            Chunk(slot.index, np.array([slot.sequence.next_token], np.int32), slot.filled, True)
            for slot in self._slots
            if slot.sequence is not None and slot.sequence.next_token is not None
        ]
        room = min(STEP_TOKENS - len(chunks), SHARED_PROMPT_TOKENS) if chunks else STEP_TOKENS
        for slot in self._slots:
            sequence = slot.sequence
            if room <= 0 or sequence is None or sequence.next_token is not None:
                continue
            prompt = sequence.owner.prompt
            end = min(len(prompt), slot.filled + room)
            chunks.append(Chunk(slot.index, prompt[slot.filled : end], slot.filled, end == len(prompt)))
            room -= end - slot.filled
        return Step(tuple(chunks)) if chunks else None

    def advance(self, step: Step, tokens: dict[int, int], now: float) -> EventList:
        """The step is computed; ``tokens`` has the sampled id of each slot whose chunk wanted one."""
        events: EventList = []
        for chunk in step.chunks:
            slot = self._slots[chunk.slot]
            end = chunk.position + len(chunk.ids)
            slot.ids[chunk.position : end] = chunk.ids
            slot.filled = end
            slot.last_used = now
            sequence = slot.sequence
            assert sequence is not None
            if sequence.next_token is None:
                self.prompt_tokens_total += len(chunk.ids)
            if chunk.wants_token:
                events += self._sampled(slot, sequence, tokens[chunk.slot], now)
            else:
                owner = sequence.owner
                events.append((owner.request.id, Progress("prefill", end, len(owner.prompt))))
        return events

    def _sampled(self, slot: _Slot, sequence: _Sequence, token: int, now: float) -> EventList:
        owner = sequence.owner
        request = owner.request
        if owner.first_token is None:
            owner.first_token = now
        if self._vocabulary.is_end(token) and not request.ignore_eos:
            return self._end(slot, sequence, "stop", now)
        sequence.produced += 1
        owner.completion_tokens += 1
        self.completion_tokens_total += 1
        data = self._vocabulary.piece(token)
        events: EventList = [(request.id, Tokens(sequence.choice, (token,), data))]
        sequence.next_token = token
        if sequence.stops.feed(data).matched is not None:
            return events + self._end(slot, sequence, "stop_string", now)
        out_of_tokens = request.max_tokens is not None and sequence.produced >= request.max_tokens
        if out_of_tokens or slot.filled >= self._context_size:
            return events + self._end(slot, sequence, "length", now)
        return events

    def _end(self, slot: _Slot, sequence: _Sequence, reason: FinishReason, now: float) -> EventList:
        owner = sequence.owner
        slot.sequence = None
        owner.reasons[sequence.choice] = reason
        reasons = tuple(known for known in owner.reasons if known is not None)
        if len(reasons) < len(owner.reasons):
            return []
        del self._requests[owner.request.id]
        started = owner.started if owner.started is not None else now
        first_token = owner.first_token if owner.first_token is not None else now
        finished = Finished(
            reasons,
            Usage(len(owner.prompt), owner.completion_tokens, owner.cached_tokens),
            Timings(started - owner.submitted, first_token - started, now - first_token),
        )
        return [(owner.request.id, finished)]


def _shared_prefix(slot: _Slot, prompt: Ids) -> int:
    """How many ids from the beginning the slot's cache and the prompt have in common."""
    length = min(slot.filled, len(prompt))
    different = np.flatnonzero(slot.ids[:length] != prompt[:length])
    return int(different[0]) if len(different) else length
