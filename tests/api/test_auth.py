from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from localai.api.auth import MAX_KEY_CHARS, ExemptRoutes, KeyRing, presented_key
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
    keys = KeyRing((Secret("first"), Secret("zweiter-schlüssel")))
    assert keys
    assert keys.has("first")
    assert keys.has("zweiter-schlüssel")
    for wrong in ("", "firs", "first ", "First", "\udcff"):
        assert not keys.has(wrong)


def test_without_keys_there_is_no_ring() -> None:
    assert not KeyRing(())
    assert not KeyRing(()).has("")


@given(st.text(st.characters(codec=None), max_size=50))
def test_no_other_text_opens(text: str) -> None:
    assert KeyRing((Secret("right"),)).has(text) == (text == "right")


def test_routes_are_exempt_by_their_pattern() -> None:
    routes = ExemptRoutes(("^/v1/models$", "^/v1/models/[{]model", "(unclosed", "swagger"))
    assert routes.invalid == ["(unclosed"]
    for route in ("/v1/models", "/v1/models/{model}", "/v1/models/{model}/", "/x/swagger/y", "/v1/models"):
        assert routes.covers(route)
    for route in ("/v1/models/", "/system", ""):
        assert not routes.covers(route)
    assert not ExemptRoutes(()).covers("/")
