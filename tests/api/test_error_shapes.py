from __future__ import annotations

import pytest

from localai.api.error_shapes import SHAPES, Shape, shape_of


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/completions", "openai"),
        ("/", "openai"),
        ("", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/messages", "anthropic"),
        ("/v1/responses/resp_1", "responses"),
        ("/v1/text-to-speech/voice", "elevenlabs"),
        ("/v1/sound-generation", "elevenlabs"),
        ("/api/chat", "flat"),
        ("/apis", "openai"),
    ],
)
def test_the_path_decides(path: str, shape: Shape) -> None:
    assert shape_of(path) == shape


def test_no_row_hides_another() -> None:
    for prefix, shape in SHAPES:
        assert shape_of(prefix) == shape_of(f"{prefix}/") == shape_of(f"{prefix}/x") == shape
