"""Who says how tokens are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.inference import SEEDS, Sampling
from localai.node.request_defaults import RANGES, ZERO_IS_NOTHING, RequestDefaults, sampling_from

OTHER = Sampling(0.1, 0.2, 3, 0.4, 1.5, 0.6, 0.7, 8)


def test_what_is_not_said_is_the_default() -> None:
    assert sampling_from({}, OTHER) == OTHER
    assert sampling_from(dict.fromkeys([*RANGES, "seed"], None), OTHER) == OTHER
    assert RequestDefaults().sampling == Sampling()


def test_what_is_said_counts() -> None:
    said = {
        "temperature": 0,
        "top_p": 0,
        "top_k": -1,
        "min_p": 0,
        "repeat_penalty": 2,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "seed": 0,
    }
    assert sampling_from(said, OTHER) == Sampling(0, 0, 0, 0, 2, 1, -1, 0)


def test_a_penalty_of_0_counts_as_not_said() -> None:
    assert sampling_from(dict.fromkeys(ZERO_IS_NOTHING, 0), OTHER) == OTHER


@pytest.mark.parametrize(("seed", "taken"), [(-1, None), (SEEDS + 6, 6), (-2, SEEDS - 2)])
def test_seeds(seed: int, taken: int | None) -> None:
    assert sampling_from({"seed": seed}, OTHER).seed == taken


@given(st.dictionaries(st.sampled_from([name for name in RANGES if name != "n"]), st.floats(0.01, 1)))
def test_a_number_is_what_was_said_or_the_default(said: dict[str, float]) -> None:
    sampling = sampling_from(said, OTHER)
    for name in ("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty"):
        assert getattr(sampling, name) == said.get(name, getattr(OTHER, name))
