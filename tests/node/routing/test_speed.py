from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.inference import Finished, FinishReason, Timings, Usage
from localai.node.routing.score import slowdown
from localai.node.routing.speed import LEAST_TOKENS, NEW_SHARE, SpeedMeter

STOP: FinishReason = "stop"


def answer(
    prompt: int, completion: int, prefill_s: float, decode_s: float, cached: int = 0, choices: int = 1
) -> Finished:
    return Finished((STOP,) * choices, Usage(prompt, completion, cached), Timings(0.0, prefill_s, decode_s))


def test_the_first_answer_is_the_speed_and_later_ones_move_it() -> None:
    meter = SpeedMeter()
    assert (meter.prompt_tps, meter.decode_tps) == (0.0, 0.0)
    meter.finished(answer(100, 50, 1.0, 5.0), 1)
    assert (meter.prompt_tps, meter.decode_tps) == (100.0, 10.0)
    meter.finished(answer(200, 100, 1.0, 5.0), 1)
    assert (meter.prompt_tps, meter.decode_tps) == (100 + NEW_SHARE * 100, 10 + NEW_SHARE * 10)


def test_cached_prompt_tokens_cost_nothing_and_count_for_nothing() -> None:
    meter = SpeedMeter()
    meter.finished(answer(100, 0, 1.0, 0.0, cached=60), 1)
    assert meter.prompt_tps == 40.0
    assert meter.decode_tps == 0.0


@pytest.mark.parametrize(
    "finished",
    [
        answer(LEAST_TOKENS - 1, LEAST_TOKENS - 1, 1.0, 1.0),
        answer(100, 100, 0.0, 0.0),
        answer(100, 100, -1.0, -1.0, cached=95),
        Finished((), Usage(4, 100), Timings(0.0, 1.0, 1.0)),
    ],
)
def test_what_would_only_measure_the_clock_is_left_out(finished: Finished) -> None:
    meter = SpeedMeter()
    meter.finished(finished, 1)
    assert (meter.prompt_tps, meter.decode_tps) == (0.0, 0.0)


def test_neighbours_are_taken_out_of_the_decode_speed() -> None:
    """A stream beside three others would be faster alone; so would each choice of one request beside its siblings."""
    meter = SpeedMeter()
    meter.finished(answer(1, 40, 1.0, 4.0), 4)
    assert meter.decode_tps == pytest.approx(10 * slowdown(4))
    choices = SpeedMeter()
    choices.finished(answer(1, 160, 1.0, 4.0, choices=4), 1)
    assert choices.decode_tps == pytest.approx(10 * slowdown(4))


@given(st.lists(st.tuples(st.integers(LEAST_TOKENS, 1000), st.floats(0.001, 100)), min_size=1))
def test_the_mean_stays_within_what_was_measured(measured: list[tuple[int, float]]) -> None:
    meter = SpeedMeter()
    for tokens, seconds in measured:
        meter.finished(answer(1, tokens, 1.0, seconds), 1)
    rates = [tokens / seconds for tokens, seconds in measured]
    assert min(rates) * 0.999 <= meter.decode_tps <= max(rates) * 1.001
