"""Media inside a request."""

from __future__ import annotations

import pytest

from localai.api.dialects.media_parts import media_at, media_from_base64
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported


def test_bytes_inside_and_bytes_fetched() -> None:
    assert media_at("data:image/png;base64,aGk=", "p", {}) == b"hi"
    assert media_at("https://a/b", "p", {"https://a/b": b"x"}) == b"x"
    assert media_from_base64("aGk=", "p") == b"hi"


def test_errors_name_their_field() -> None:
    with pytest.raises(Unsupported) as caught:
        media_at("https://a/b", "messages[0].content[1]", {})
    assert caught.value.param == "messages[0].content[1]"
    with pytest.raises(LocalAIError) as unreadable:
        media_at("data:image/png;base64,***", "p", {})
    assert unreadable.value.param == "p"
    for text in ("***", "\u00fc"):
        with pytest.raises(InvalidRequest, match="'q' is not base64") as wrong:
            media_from_base64(text, "q")
        assert wrong.value.param == "q"
