"""The loop between schedule and model, on the tiny model in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from localai.node.inference import (
    Event,
    Failed,
    Finished,
    GenerateRequest,
    RequestId,
    Sampling,
    TextInput,
    Tokens,
    is_terminal,
)
from localai.node.workers.frames import Load
from localai.node.workers.llama.engine import Engine
from localai.node.workers.llama.model import EngineError, LlamaModel
from localai.node.workers.llama.schedule import Chunk

pytestmark = pytest.mark.e2e


class Run:
    """An engine and what came out of it."""

    def __init__(self, model: LlamaModel) -> None:
        self.model = model
        self.engine = Engine(model)
        self.events: dict[RequestId, list[Event]] = {}

    def submit(self, name: str, text: str = "hello", **changes: object) -> None:
        request = GenerateRequest(
            RequestId(name),
            "m",
            TextInput(text),
            Sampling(temperature=0),
            ignore_eos=True,
            **changes,  # type: ignore[arg-type]  # real fields
        )
        self._note(self.engine.submit(request, self.model.tokenize(text, add_special=True), ""))

    def run(self, steps: int = 10_000) -> None:
        while self.engine.busy and steps:
            self._note(self.engine.step())
            steps -= 1

    def _note(self, events: list[tuple[RequestId, Event]]) -> None:
        for request_id, event in events:
            self.events.setdefault(request_id, []).append(event)

    def text(self, name: str) -> bytes:
        return b"".join(event.data for event in self.events[RequestId(name)] if isinstance(event, Tokens))

    def last(self, name: str) -> Event:
        return self.events[RequestId(name)][-1]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LlamaModel:
    return LlamaModel(Load(str(tiny_model), 512, 3, 1), lambda _fraction: None)


def test_answers_side_by_side_are_the_answers_alone(model: LlamaModel) -> None:
    alone = Run(model)
    for index in range(5):
        alone.submit(f"r{index}", f"text number {index}", max_tokens=20)
        alone.run()
    together = Run(model)
    for index in range(5):
        together.submit(f"r{index}", f"text number {index}", max_tokens=20)
    together.run()
    for index in range(5):
        assert together.text(f"r{index}") == alone.text(f"r{index}")
        assert isinstance(together.last(f"r{index}"), Finished)


def test_nothing_to_do(model: LlamaModel) -> None:
    run = Run(model)
    assert not run.engine.busy
    assert run.engine.step() == []


def test_cancelling_frees_the_slot_for_the_next(model: LlamaModel) -> None:
    run = Run(model)
    for index in range(4):
        run.submit(f"r{index}")
    run.run(steps=5)
    for index in range(3):
        run.engine.cancel(RequestId(f"r{index}"))
    run.submit("next", max_tokens=3)
    run.run()
    assert isinstance(run.last("r3"), Finished)
    assert isinstance(run.last("next"), Finished)
    assert not is_terminal(run.last("r0"))


def test_when_a_step_fails_everybody_is_told_and_work_goes_on(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(model)
    run.submit("a")
    run.submit("b")
    run.run(steps=2)

    def fail(chunks: tuple[Chunk, ...]) -> dict[int, int]:
        raise EngineError("It broke.")

    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", fail)
        run.run(steps=1)
    for name in "ab":
        failed = run.last(name)
        assert isinstance(failed, Failed)
        assert failed.message == "It broke."
    run.submit("c", max_tokens=4)
    run.run()
    assert isinstance(run.last("c"), Finished)
