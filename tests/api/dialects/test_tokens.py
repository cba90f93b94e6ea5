from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.tokens import parse_detokenize, parse_tokenize, render_detokenize, render_tokenize
from localai.api.schemas.tokens import DetokenizeBody, TokenizeBody
from localai.mesh.errors import InvalidRequest
from localai.node.inference import (
    Detokenized,
    DetokenizeRequest,
    Finished,
    RequestId,
    Tokenized,
    TokenizeRequest,
    Usage,
)
from localai.node.testing.fake_results import fake_result

ID = RequestId("r")
END = Finished((), Usage(1, 0))


def test_requests() -> None:
    assert parse_tokenize(TokenizeBody(), ID, "m", local_only=False) == TokenizeRequest(ID, "m", "")
    asked = parse_detokenize(DetokenizeBody(None, [1, 2]), ID, "m", local_only=True)
    assert asked == DetokenizeRequest(ID, "m", (1, 2), local_only=True)


@pytest.mark.parametrize("token", [-1, 2**31, 10**40])
def test_numbers_that_are_no_tokens(token: int) -> None:
    with pytest.raises(InvalidRequest, match="no token id") as caught:
        parse_detokenize(DetokenizeBody(None, [1, token]), ID, "m", local_only=False)
    assert caught.value.param == "tokens[1]"
    assert len(caught.value.message) < 200


def test_parts_are_put_together() -> None:
    assert render_tokenize([Tokenized((1, 2)), Tokenized((3,)), END]).tokens == [1, 2, 3]
    assert render_tokenize([Tokenized(()), END]).tokens == []
    assert render_detokenize([Detokenized(b"\xc3"), Detokenized(b"\xa4\xff"), END]).content == "ä�"


@given(st.text())
def test_there_and_back(text: str) -> None:
    ids = render_tokenize(fake_result(parse_tokenize(TokenizeBody("m", text), ID, "m", local_only=False))).tokens
    back = parse_detokenize(DetokenizeBody("m", ids), ID, "m", local_only=False)
    assert render_detokenize(fake_result(back)).content == text
