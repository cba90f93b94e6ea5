from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import LocalAIError
from localai.node.inference import (
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    RequestId,
    Sampling,
    Started,
    TokenInput,
    Tokens,
    is_terminal,
)
from localai.node.workers.llama.schedule import (
    SHARED_PROMPT_TOKENS,
    STEP_TOKENS,
    EventList,
    Schedule,
    Step,
    Trim,
)

END = 0


class Letters:
    """Token i is the letter i; 0 ends the turn."""

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


def ask(name: str, **changes: object) -> GenerateRequest:
    return GenerateRequest(RequestId(name), "m", TokenInput(()), Sampling(temperature=0), **changes)  # type: ignore[arg-type]  # the tests name real fields


class Run:
    """A schedule with an engine that keeps every cache and draws what it is told to."""

    def __init__(self, slots: int = 2, context_size: int = 64) -> None:
        self.schedule = Schedule(slots, context_size, Letters())
        self.now = 0.0
        self.events: dict[RequestId, list[Event]] = {}
        self.steps: list[Step] = []

    def submit(self, request: GenerateRequest, prompt: list[int]) -> None:
        self.note(self.schedule.submit(request, np.array(prompt, np.int32), "t", self.now))

    def note(self, events: EventList) -> None:
        for request_id, event in events:
            seen = self.events.setdefault(request_id, [])
            assert not (seen and is_terminal(seen[-1]))
            seen.append(event)

    def step(self, draw: int = ord("x")) -> Step | None:
        self.now += 1.0
        for trim in self.schedule.admit(self.now):
            self.note(self.schedule.trimmed(trim.slot, trim.keep))
        step = self.schedule.plan()
        if step is not None:
            assert sum(len(chunk.ids) for chunk in step.chunks) <= STEP_TOKENS
            assert len({chunk.slot for chunk in step.chunks}) == len(step.chunks)
            self.steps.append(step)
            tokens = dict.fromkeys((chunk.slot for chunk in step.chunks if chunk.wants_token), draw)
            self.note(self.schedule.advance(step, tokens, self.now))
        return step

    def run(self, draw: int = ord("x")) -> None:
        while self.step(draw) is not None:
            assert len(self.steps) < 10_000

    def text(self, name: str, choice: int = 0) -> bytes:
        return b"".join(e.data for e in self.events[RequestId(name)] if isinstance(e, Tokens) and e.choice == choice)

    def last(self, name: str) -> Event:
        return self.events[RequestId(name)][-1]


def test_one_request_from_queue_to_end() -> None:
    run = Run()
    run.submit(ask("a", max_tokens=3), [1, 2, 3])
    run.run()
    kinds = [type(event).__name__ for event in run.events[RequestId("a")]]
    assert kinds == ["Progress", "Started", "Tokens", "Tokens", "Tokens", "Finished"]
    assert run.text("a") == b"xxx"
    finished = run.last("a")
    assert isinstance(finished, Finished)
    assert finished.reasons == ("length",)
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (3, 3)
    assert (finished.timings.queue_s, finished.timings.prefill_s, finished.timings.decode_s) == (1.0, 0.0, 2.0)
    assert (run.schedule.prompt_tokens_total, run.schedule.completion_tokens_total) == (3, 3)


def test_the_model_ends_its_turn_unless_told_to_go_on() -> None:
    run = Run()
    run.submit(ask("a"), [1])
    run.submit(ask("b", ignore_eos=True, max_tokens=2), [1])
    run.run(draw=END)
    finished = run.last("a")
    assert isinstance(finished, Finished)
    assert finished.reasons == ("stop",)
    assert finished.usage.completion_tokens == 0
    assert run.text("b") == b"\0\0"


def test_a_stop_string_ends_at_the_token_that_completes_it() -> None:
    run = Run()
    run.submit(ask("a", stop=("xxx",)), [1])
    run.run()
    assert run.text("a") == b"xxx"
    finished = run.last("a")
    assert isinstance(finished, Finished)
    assert finished.reasons == ("stop_string",)


def test_the_context_ends_an_answer_without_a_limit() -> None:
    run = Run(context_size=10)
    run.submit(ask("a"), [1, 2, 3, 4])
    run.run()
    assert len(run.text("a")) == 7, "the last token needs no room of its own"
    finished = run.last("a")
    assert isinstance(finished, Finished)
    assert finished.reasons == ("length",)


@pytest.mark.parametrize(("prompt", "code"), [([], "invalid_request"), ([1] * 10, "context_length_exceeded")])
def test_prompts_that_cannot_be_answered(prompt: list[int], code: str) -> None:
    run = Run(context_size=10)
    run.submit(ask("a"), prompt)
    failed = run.last("a")
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert run.step() is None


def test_a_request_that_comes_twice_is_taken_once() -> None:
    run = Run()
    run.submit(ask("a", max_tokens=1), [1])
    assert run.schedule.submit(ask("a"), np.array([1], np.int32), "t", 0.0) == []


def test_long_prompts_come_in_pieces_and_let_streams_go_on() -> None:
    run = Run(context_size=4096)
    run.submit(ask("long", max_tokens=1), [1] * 1200)
    run.run()
    assert [len(step.chunks[0].ids) for step in run.steps] == [512, 512, 176]
    progress = [event for event in run.events[RequestId("long")] if isinstance(event, Progress)][1:]
    assert progress == [Progress("prefill", 512, 1200), Progress("prefill", 1024, 1200)]

    run = Run(context_size=4096)
    run.submit(ask("talks", max_tokens=100), [1])
    run.step()
    run.submit(ask("long", max_tokens=1), [2] * 300)
    before = len(run.text("talks"))
    while not run.text("long"):
        step = run.step()
        assert step is not None
        assert sum(len(chunk.ids) for chunk in step.chunks) <= SHARED_PROMPT_TOKENS + 1
    assert len(run.text("talks")) == before + 3, "one token in each of the three steps"


def test_more_requests_than_slots_wait_in_order() -> None:
    run = Run(slots=2)
    for name in "abcde":
        run.submit(ask(name, max_tokens=2), [1])
    assert (run.schedule.active, run.schedule.queued) == (0, 5)
    run.step()
    assert (run.schedule.active, run.schedule.queued) == (2, 3)
    run.run()
    assert all(isinstance(run.last(name), Finished) for name in "abcde")


def test_a_prompt_starts_from_the_slot_that_knows_most_of_it() -> None:
    run = Run(slots=2)
    run.submit(ask("a", max_tokens=1), [1, 2, 3, 4])
    run.submit(ask("b", max_tokens=1), [9, 9])
    run.run()
    run.submit(ask("c", max_tokens=1), [1, 2, 3, 5, 6])
    run.now += 1
    assert run.schedule.admit(run.now) == [Trim(0, 3)]
    run.note(run.schedule.trimmed(0, 3))
    step = run.schedule.plan()
    assert step is not None
    assert list(step.chunks[0].ids) == [5, 6]
    started = run.last("c")
    assert isinstance(started, Started)
    assert started.cached_tokens == 3


def test_the_last_prompt_id_is_always_computed_anew() -> None:
    run = Run(slots=1)
    run.submit(ask("a", max_tokens=1), [1, 2, 3])
    run.run()
    run.submit(ask("b", max_tokens=1), [1, 2, 3])
    assert run.schedule.admit(1.0) == [Trim(0, 2)]


def test_an_engine_that_keeps_nothing_computes_the_whole_prompt() -> None:
    run = Run(slots=1)
    run.submit(ask("a", max_tokens=1), [1, 2, 3])
    run.run()
    run.submit(ask("b", max_tokens=1), [1, 2, 3])
    run.schedule.admit(1.0)
    run.note(run.schedule.trimmed(0, 0))
    step = run.schedule.plan()
    assert step is not None
    assert list(step.chunks[0].ids) == [1, 2, 3]


def test_choices_run_side_by_side_and_end_together() -> None:
    run = Run(slots=2)
    run.submit(ask("a", choices=3, max_tokens=2), [1, 2])
    run.run()
    assert [run.text("a", choice) for choice in range(3)] == [b"xx"] * 3
    finished = run.last("a")
    assert isinstance(finished, Finished)
    assert finished.reasons == ("length",) * 3
    assert finished.usage.completion_tokens == 6
    assert finished.usage.prompt_tokens == 2


def test_choices_of_a_seeded_request_have_seeds_of_their_own() -> None:
    run = Run(slots=4)
    request = GenerateRequest(RequestId("a"), "m", TokenInput(()), Sampling(seed=2**32 - 2), choices=2)
    run.submit(request, [1])
    run.step()
    assert [run.schedule.sampling_in(slot).seed for slot in (0, 1)] == [2**32 - 2, 0]
    unseeded = GenerateRequest(RequestId("b"), "m", TokenInput(()), Sampling(), choices=2)
    run.submit(unseeded, [1])
    run.step()
    assert [run.schedule.sampling_in(slot).seed for slot in (2, 3)] == [None, None]
    assert run.schedule.request_in(3) is unseeded


def test_a_cancelled_request_frees_its_slots_and_leaves_the_queue() -> None:
    run = Run(slots=2)
    run.submit(ask("a", choices=3), [1])
    run.submit(ask("b", max_tokens=1), [1])
    run.step()
    assert sorted(run.schedule.cancel(RequestId("a"))) == [0, 1]
    assert run.schedule.vacated([0, 1]) == [0, 1]
    assert run.schedule.cancel(RequestId("a")) == []
    events = len(run.events[RequestId("a")])
    run.run()
    assert len(run.events[RequestId("a")]) == events
    assert isinstance(run.last("b"), Finished)


def test_when_the_engine_fails_everything_fails_and_nothing_is_remembered() -> None:
    run = Run(slots=1)
    run.submit(ask("a"), [1, 2, 3])
    run.submit(ask("b"), [1, 2, 3])
    run.step()
    run.note(run.schedule.fail_all(LocalAIError("Broken.")))
    assert isinstance(run.last("a"), Failed)
    assert isinstance(run.last("b"), Failed)
    assert run.step() is None
    run.submit(ask("c", max_tokens=1), [1, 2, 3])
    assert run.schedule.admit(1.0) == [Trim(0, 0)]


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 3), min_size=1, max_size=40),
        st.integers(1, 20) | st.none(),
        st.integers(1, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(REQUESTS, st.integers(1, 4), st.data())
def test_any_mix_of_requests_gets_its_tokens_and_one_end(
    requests: list[tuple[list[int], int | None, int, bool]], slots: int, data: st.DataObject
) -> None:
    run = Run(slots=slots, context_size=48)
    cancelled = set()
    for index, (prompt, max_tokens, choices, cancel) in enumerate(requests):
        run.submit(ask(f"r{index}", max_tokens=max_tokens, choices=choices), prompt)
        if data.draw(st.booleans(), label="step between"):
            run.step(draw=data.draw(st.sampled_from([END, 1, 2]), label="draw"))
        if cancel:
            cancelled.add(f"r{index}")
            run.schedule.cancel(RequestId(f"r{index}"))
    run.run()
    for index, (prompt, max_tokens, choices, _) in enumerate(requests):
        name = f"r{index}"
        if name in cancelled:
            continue
        finished = run.last(name)
        assert isinstance(finished, Finished)
        limit = min(max_tokens or 48, 48 - len(prompt) + 1)
        texts = [run.text(name, choice) for choice in range(choices)]
        assert all(len(text) <= limit for text in texts)
        assert finished.usage.completion_tokens == sum(map(len, texts))
    assert (run.schedule.active, run.schedule.queued) == (0, 0)
