from __future__ import annotations

import pytest
from multidict import CIMultiDict

from localai.api.auth import MAX_KEY_CHARS, is_allowed, presented_key
from localai.mesh.secrets import Secret


@pytest.mark.parametrize(
    ("headers", "cookies", "key"),
    [
        ({}, {}, ""),
        ({"Authorization": "Bearer abc"}, {}, "abc"),
        ({"authorization": "bearer   abc "}, {}, "abc"),
        ({"Authorization": "abc"}, {}, "abc"),
        ({"Authorization": "Basic abc"}, {}, "Basic abc"),
        ({"Authorization": "Bearer"}, {"token": "c"}, "c"),
        ({"X-Api-Key": "x"}, {}, "x"),
        ({"xi-api-key": "xi"}, {}, "xi"),
        ({}, {"token": "cookie"}, "cookie"),
        ({"Authorization": "Bearer a", "x-api-key": "b", "xi-api-key": "c"}, {"token": "d"}, "a"),
        ({"x-api-key": "b", "xi-api-key": "c"}, {"token": "d"}, "b"),
        ({"x-api-key": " ", "xi-api-key": "c"}, {}, "c"),
    ],
)
def test_the_first_place_with_a_key_counts(headers: dict[str, str], cookies: dict[str, str], key: str) -> None:
    assert presented_key(CIMultiDict(headers), cookies) == key


def test_an_endless_key_is_cut() -> None:
    assert len(presented_key({"Authorization": "k" * 100_000}, {})) == MAX_KEY_CHARS


def test_only_a_whole_key_is_allowed() -> None:
    keys = (Secret("first"), Secret("zweiter-schlüssel"))
    assert is_allowed("first", keys)
    assert is_allowed("zweiter-schlüssel", keys)
    for wrong in ("", "firs", "first ", "First", "\udcff"):
        assert not is_allowed(wrong, keys)
    assert not is_allowed("first", ())
