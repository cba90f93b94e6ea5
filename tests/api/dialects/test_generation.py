from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from localai.api.dialects.generation import (
    MAX_BIASES,
    read_generation,
    read_logit_bias,
    read_max_tokens,
    read_sampling,
    read_stop,
    refuse,
    render_failure,
    render_reason,
    render_usage,
)
from localai.api.schemas.openai_requests import GenerationBody
from localai.api.sse import DONE
from localai.mesh.errors import Category, InvalidRequest, Unsupported
from localai.node.inference import Failed, GenerateRequest, Grammar, RequestId, Sampling, TextInput, Timings, Usage
from localai.node.request_defaults import MAX_TOKENS, NO_DEFAULTS, RANGES, ZERO_IS_NOTHING


def body(**fields: Any) -> GenerationBody:
    return msgspec.convert(fields, GenerationBody)


def test_what_is_not_said_has_the_defaults() -> None:
    assert read_sampling(body(), Sampling()) == Sampling()


def test_everything_that_is_said_is_taken() -> None:
    sampling = read_sampling(
        body(
            temperature=0,
            top_p=0,
            top_k=-1,
            min_p=0.5,
            repeat_penalty=1.2,
            frequency_penalty=-1,
            presence_penalty=2,
            seed=7,
        ),
        Sampling(),
    )
    assert sampling == Sampling(0, 0, 0, 0.5, 1.2, -1, 2, 7)


@pytest.mark.parametrize(
    ("seed", "taken"),
    [(None, None), (-1, None), (0, 0), (2**32 + 5, 6), (-2, 2**32 - 3), (2**32 - 1, 0)],
)
def test_seeds_become_what_the_engine_takes(seed: int | None, taken: int | None) -> None:
    assert read_sampling(body(seed=seed), Sampling()).seed == taken


@pytest.mark.parametrize("name", RANGES)
def test_numbers_outside_their_range_are_named(name: str) -> None:
    least, greatest = RANGES[name]
    for value in (least, greatest):
        read_sampling(body(**{name: value}), Sampling())
    for value in (least - 1, greatest + 1):
        with pytest.raises(InvalidRequest, match=name) as caught:
            read_sampling(body(**{name: value}), Sampling())
        assert caught.value.param == name


@pytest.mark.parametrize(
    ("value", "limit"), [(None, None), (0, None), (-1, None), (1, 1), (10**9, 10**9), (2**70, MAX_TOKENS)]
)
def test_token_limits(value: int | None, limit: int | None) -> None:
    assert read_max_tokens(value, "max_tokens", None) == limit


def test_a_definition_speaks_where_the_request_is_silent() -> None:
    default = Sampling(0.1, 0.2, 3, 0.4, 1.5, 0.6, 0.7, 8)
    assert read_sampling(body(), default) == default
    assert read_sampling(body(**dict.fromkeys(ZERO_IS_NOTHING, 0)), default) == default
    assert read_sampling(body(temperature=0, seed=-1), default) == Sampling(0, 0.2, 3, 0.4, 1.5, 0.6, 0.7, None)
    assert [read_max_tokens(value, "max_tokens", 5) for value in (None, 0, 7)] == [5, None, 7]


def test_a_negative_token_limit_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_max_tokens(-2, "max_completion_tokens", 5)
    assert caught.value.param == "max_completion_tokens"


def test_stop_strings() -> None:
    assert read_stop(None) == ()
    assert read_stop("") == ()
    assert read_stop("a") == ("a",)
    assert read_stop(["a", "", "b"]) == ("a", "b")
    for bad in (["x"] * 17, "x" * 1001):
        with pytest.raises(InvalidRequest) as caught:
            read_stop(bad)
        assert caught.value.param == "stop"


@pytest.mark.parametrize("value", [None, False, 0, "", "auto", "none", [], {}])
def test_fields_that_ask_for_nothing_pass(value: Any) -> None:
    refuse({"tools": value})


@pytest.mark.parametrize("value", [True, 1, 0.5, "required", [1], {"a": 1}])
def test_fields_that_ask_for_something_are_refused_by_name(value: Any) -> None:
    with pytest.raises(Unsupported, match="'tools'") as caught:
        refuse({"other": None, "tools": value})
    assert caught.value.param == "tools"


def test_biases_of_tokens() -> None:
    assert read_logit_bias(None) == read_logit_bias({}) == ()
    assert read_logit_bias({"7": 100, "3": -1.5}) == ((3, -1.5), (7, 100))
    for bad in ({"x": 1}, {"-1": 1}, {"²": 1}, {"9" * 11: 1}, {str(2**31): 1}, {"1": 101}, {"1": -100.5}):
        with pytest.raises(InvalidRequest) as caught:
            read_logit_bias(bad)
        assert caught.value.param == "logit_bias"
    with pytest.raises(InvalidRequest, match="at most"):
        read_logit_bias({str(token): 1 for token in range(MAX_BIASES + 1)})


def test_common_fields_become_a_request() -> None:
    asked = body(n=2, max_tokens=5, stop="x", ignore_eos=True, temperature=0, grammar="g", logit_bias={"1": 2})
    assert read_generation(asked, RequestId("r"), "m", TextInput("a"), NO_DEFAULTS) == GenerateRequest(
        RequestId("r"),
        "m",
        TextInput("a"),
        Sampling(temperature=0),
        5,
        ("x",),
        2,
        ignore_eos=True,
        constraint=Grammar("g"),
        logit_bias=((1, 2.0),),
    )


@pytest.mark.parametrize("name", ["typical_p", "n_keep", "batch", "rope_freq_base", "rope_freq_scale"])
def test_what_no_engine_here_has_is_refused_unless_it_changes_nothing(name: str) -> None:
    neutral: Any = 1 if name == "typical_p" else 0
    read_generation(body(**{name: neutral}), RequestId("r"), "m", TextInput("a"), NO_DEFAULTS)
    with pytest.raises(Unsupported) as caught:
        read_generation(body(**{name: 2}), RequestId("r"), "m", TextInput("a"), NO_DEFAULTS)
    assert (caught.value.code, caught.value.param) == ("unsupported_field", name)


def test_usage_and_reasons_in_openais_words() -> None:
    usage = msgspec.to_builtins(render_usage(Usage(3, 4, 2)))
    assert usage == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    timed = msgspec.to_builtins(render_usage(Usage(3, 4), Timings(1.0, 0.25, 0.0015)))
    assert (timed["timing_prompt_processing"], timed["timing_token_generation"]) == (250.0, 1.5)
    assert [render_reason(reason) for reason in ("stop", "stop_string", "length")] == ["stop", "stop", "length"]


def test_a_failure_ends_a_stream() -> None:
    error, end = render_failure(Failed(Category.UNAVAILABLE, "worker_lost", "It died.", "p", 1.0))
    assert json.loads(error.data) == {
        "error": {"code": "worker_lost", "message": "It died.", "type": "server_error", "param": "p"}
    }
    assert end == DONE
