from __future__ import annotations

import threading

from localai.node.inference import GenerateRequest, RequestId, TextInput
from localai.node.workers.llama.prompt_queue import PromptQueue


def ask(name: str) -> GenerateRequest:
    return GenerateRequest(RequestId(name), "m", TextInput("x"))


def test_requests_come_in_their_order_and_are_handed_on_when_built() -> None:
    prompts, handed = PromptQueue(), []
    for name in "ab":
        prompts.put(ask(name))
    for name in "ab":
        request = prompts.take()
        assert request.id == name
        assert prompts.building_s() > 0
        prompts.built(lambda request=request: handed.append(request.id))  # type: ignore[misc]  # binds the loop's value
        assert prompts.building_s() == 0.0
    assert handed == ["a", "b"]


def test_a_request_cancelled_before_its_turn_is_never_taken() -> None:
    prompts = PromptQueue()
    prompts.put(ask("a"))
    prompts.put(ask("b"))
    assert prompts.cancel(RequestId("a"))
    assert prompts.take().id == "b"


def test_a_request_cancelled_while_it_is_built_is_not_handed_on() -> None:
    prompts = PromptQueue()
    prompts.put(ask("a"))
    prompts.take()
    assert prompts.cancel(RequestId("a"))
    prompts.built(lambda: (_ for _ in ()).throw(AssertionError("handed on")))
    assert not prompts.cancel(RequestId("a"))


def test_what_was_handed_on_or_never_came_is_for_the_engine_to_cancel() -> None:
    prompts = PromptQueue()
    prompts.put(ask("a"))
    prompts.take()
    prompts.built(lambda: None)
    assert not prompts.cancel(RequestId("a"))
    assert not prompts.cancel(RequestId("never"))


def test_the_builder_waits_for_work() -> None:
    prompts, taken = PromptQueue(), threading.Event()

    def build() -> None:
        assert prompts.take().id == "late"
        taken.set()

    builder = threading.Thread(target=build)
    builder.start()
    prompts.put(ask("late"))
    assert taken.wait(10)
    builder.join(10)
