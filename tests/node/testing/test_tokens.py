"""Tokens for tests are real ones."""

from localai.mesh.network_token import parse_network_token
from localai.node.testing.tokens import new_token_text


def test_each_is_new_and_can_be_read() -> None:
    first, second = new_token_text(), new_token_text()
    assert first != second
    assert parse_network_token(first).text.reveal() == first
