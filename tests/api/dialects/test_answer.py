from __future__ import annotations

import pytest

from localai.api.dialects.answer import FoldedChoice, fold
from localai.mesh.errors import Category, Unavailable
from localai.node.inference import Failed, Timings, TokenLogprob, ToolCall, Usage
from localai.node.output_parser import (
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)


def test_events_fold_into_one_value() -> None:
    folded = fold(
        [
            AnswerStarted(3),
            TextDelta(1, "b"),
            TextDelta(0, "a"),
            TextDelta(1, "c"),
            ChoiceFinished(0, "stop"),
            ChoiceFinished(1, "length"),
            AnswerFinished(Usage(3, 4), Timings()),
        ],
        2,
    )
    assert folded.choices == (FoldedChoice("a"), FoldedChoice("bc", reason="length"))
    assert folded.usage == Usage(3, 4)


def test_a_failure_is_raised_as_what_it_was() -> None:
    with pytest.raises(Unavailable, match="Gone") as caught:
        fold([TextDelta(0, "a"), Failed(Category.UNAVAILABLE, "worker_lost", "Gone.", None, 1.0)], 1)
    assert (caught.value.code, caught.value.retry_after_s) == ("worker_lost", 1.0)


def test_reasoning_calls_and_probabilities_fold_too() -> None:
    likely = TokenLogprob(1, b"a", -0.5)
    folded = fold(
        [
            ReasoningDelta(0, "Hm"),
            ReasoningDelta(0, "m."),
            TextDelta(0, "a", (likely,)),
            ToolCallStart(0, 0, "call_1", "look"),
            ToolArgumentsDelta(0, 0, '{"at":'),
            ToolArgumentsDelta(0, 0, "1}"),
            ChoiceFinished(0, "stop_string", "END", called_tools=True),
            AnswerFinished(Usage(3, 4), Timings()),
        ],
        1,
    )
    assert folded.choices == (
        FoldedChoice("a", "Hmm.", [ToolCall("call_1", "look", '{"at":1}')], "stop_string", "END", [likely]),
    )
