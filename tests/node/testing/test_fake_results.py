"""What fake workers make up."""

from __future__ import annotations

import pytest

from localai.mesh.errors import InvalidRequest
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Finished,
    RequestId,
    RerankRequest,
    Scored,
    TextInput,
    TokenInput,
    Tokenized,
    TokenizeRequest,
    Usage,
)
from localai.node.testing.fake_results import DIMENSIONS, fake_logprob, fake_result, fake_vector

ID = RequestId("a")


def test_equal_inputs_have_equal_vectors() -> None:
    inputs = (TextInput("ab"), TokenInput((97, 98)), ChatInput((ChatMessage("user", "ab"),)))
    first, second, third, finished = fake_result(EmbedRequest(ID, "m", inputs))
    assert (first, second) == (Embedded(0, fake_vector(b"ab")), Embedded(1, fake_vector(b"ab")))
    assert third != Embedded(2, fake_vector(b"ab"))
    assert finished == Finished((), Usage(13, 0))
    assert len(fake_vector(b"ab")) == 4 * DIMENSIONS
    assert fake_vector(b"ab", 3) == fake_vector(b"ab")[:12]


def test_shared_words_are_the_score() -> None:
    scored, _ = fake_result(RerankRequest(ID, "m", "big river", ("a river", "big River", "stone")))
    assert scored == Scored((0.5, 1.0, 0.0))
    assert fake_result(RerankRequest(ID, "m", "", ("x",)))[0] == Scored((0.0,))


def test_bytes_are_tokens() -> None:
    assert fake_result(TokenizeRequest(ID, "m", "hü"))[0] == Tokenized(tuple("hü".encode()))
    assert fake_result(DetokenizeRequest(ID, "m", (104, 105)))[0] == Detokenized(b"hi")
    with pytest.raises(InvalidRequest, match="outside"):
        fake_result(DetokenizeRequest(ID, "m", (256,)))


def test_probabilities_with_alternatives() -> None:
    likely = fake_logprob(255, 2)
    assert (likely.data, likely.logprob) == (b"\xff", -0.125)
    assert likely.top == ((255, b"\xff", -0.125), (0, b"\x00", -1.125))
