from __future__ import annotations

import msgspec
import pytest

from localai.api.dialects.raw_json import is_given, object_text
from localai.mesh.errors import InvalidRequest


def test_objects_keep_their_text() -> None:
    text = '{"a": 123456789012345678901234567890, "b": "é"}'
    assert object_text(msgspec.Raw(text.encode()), "x") == text


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"", "invalid_type"), (b"null", "invalid_type"), (b"[1]", "invalid_type"), (b'{"a": "\xff"}', "invalid_json")],
)
def test_anything_else_is_refused_by_name(raw: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest, match=r"'a\.b'") as caught:
        object_text(msgspec.Raw(raw), "a.b")
    assert (caught.value.code, caught.value.param) == (code, "a.b")


def test_what_is_given() -> None:
    assert [is_given(msgspec.Raw(raw)) for raw in (b"", b"null", b"0", b"{}")] == [False, False, True, True]
