from __future__ import annotations

import pytest

from localai.api.dialects.answer import fold
from localai.mesh.errors import Category, Unavailable
from localai.node.inference import Failed, Timings, Usage
from localai.node.output_parser import AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta


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
    assert folded.texts == ("a", "bc")
    assert folded.reasons == ("stop", "length")
    assert folded.usage == Usage(3, 4)


def test_a_failure_is_raised_as_what_it_was() -> None:
    with pytest.raises(Unavailable, match="Gone") as caught:
        fold([TextDelta(0, "a"), Failed(Category.UNAVAILABLE, "worker_lost", "Gone.", None, 1.0)], 1)
    assert (caught.value.code, caught.value.retry_after_s) == ("worker_lost", 1.0)
