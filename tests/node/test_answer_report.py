from __future__ import annotations

import pytest

from localai.node.answer_report import token_gap_s
from localai.node.inference import GenerateRequest, Request, RequestId, TextInput, TokenizeRequest, Usage

ONE = GenerateRequest(RequestId("r"), "m", TextInput("x"))
TWO = GenerateRequest(RequestId("r"), "m", TextInput("x"), choices=2)


@pytest.mark.parametrize(
    ("request_", "tokens", "gap_s"),
    [
        (ONE, 0, None),
        (ONE, 1, None),
        (ONE, 2, 6.0),
        (ONE, 4, 2.0),
        (TWO, 2, None),
        (TWO, 8, 2.0),
        (TokenizeRequest(RequestId("r"), "m", "x"), 0, None),
    ],
)
def test_the_gap_is_between_tokens_of_one_choice(request_: Request, tokens: int, gap_s: float | None) -> None:
    assert token_gap_s(request_, Usage(3, tokens), 6.0) == gap_s
