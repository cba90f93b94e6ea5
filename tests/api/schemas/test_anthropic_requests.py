from __future__ import annotations

from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.schemas.anthropic_requests import MessagesBody, PromptBody
from localai.mesh.errors import InvalidRequest


def test_nothing_is_needed_to_read_a_body() -> None:
    assert decode_body(b"", MessagesBody) == MessagesBody()
    assert decode_body(b'{"unknown": 1, "max_tokens": 3}', PromptBody) == PromptBody()


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b'{"max_tokens": "3"}', "max_tokens"),
        (b'{"max_tokens": 3.5}', "max_tokens"),
        (b'{"messages": [{"role": "user"}]}', "messages[0].content"),
        (b'{"messages": [{"content": "a"}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": [{}]}]}', "messages[0].content[0].type"),
        (b'{"messages": [{"role": "user", "content": null}]}', "messages[0].content"),
        (b'{"tools": [{}]}', "tools[0].name"),
        (b'{"metadata": {"user_id": 1}}', "metadata[...]"),
        (b'{"stop_sequences": "END"}', "stop_sequences"),
        (b'{"tool_choice": {}}', "tool_choice.type"),
        (b'{"thinking": {}}', "thinking.type"),
    ],
)
def test_wrong_types_are_named(data: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(data, MessagesBody)
    assert caught.value.param == param


def test_blocks_inside_blocks_without_end() -> None:
    depth = 100_000
    data = b'{"messages": [{"role": "user", "content": ' + b'[{"type": "tool_result", "content": ' * depth
    with pytest.raises(InvalidRequest):
        decode_body(data, MessagesBody)
