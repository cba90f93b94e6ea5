from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from localai.api.site_rules import AllowedOrigins, check_site, cors_headers, is_preflight, preflight_headers
from localai.mesh.errors import Forbidden

NOBODY = AllowedOrigins()
CHAT = AllowedOrigins(("https://chat.example", "http://localhost:*"))


def passes(method: str, headers: dict[str, str], origins: AllowedOrigins = NOBODY) -> bool:
    try:
        check_site(method, CIMultiDict({"Host": "box:8080", **headers}), origins)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),  # no browser
        ({"Referer": "http://evil.example/"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "Same-Origin", "Origin": "http://behind.proxy"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://box:3000"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://box:8080"}, False),
        ({"Sec-Fetch-Site": "nonsense"}, False),
        ({"Origin": "http://box:8080"}, True),
        ({"Origin": "HTTP://BOX:8080"}, True),
        ({"Origin": "http://box"}, False),
        ({"Origin": "http://box:8080.evil.example"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Origin": "chrome-extension://box:8080"}, False),
        ({"Origin": "http://evil.example", "Authorization": "Bearer k"}, True),
        ({"Origin": "http://evil.example", "x-api-key": "k"}, True),
        ({"Origin": "http://evil.example", "xi-api-key": "k"}, True),
        ({"Origin": "http://evil.example", "Cookie": "token=k"}, False),
    ],
)
def test_who_may_change_something(method: str, headers: dict[str, str], expected: bool) -> None:
    assert passes(method, headers) is expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_changes_nothing_but_a_web_socket_can(method: str) -> None:
    page = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert passes(method, page)
    assert not passes(method, {**page, "Upgrade": "WebSocket"})
    assert passes(method, {"Upgrade": "websocket"})


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://box", "box:80", True),
        ("http://box:80", "box", True),
        ("https://box", "box:443", True),
        ("https://box", "box", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://box", "box:443", False),
        ("http://box", "", False),
        ("http://", "", False),
    ],
)
def test_the_default_port_need_not_be_written(origin: str, host: str, expected: bool) -> None:
    assert passes("POST", {"Origin": origin, "Host": host}) is expected


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(Forbidden, match="--cors-allow-origins") as caught:
        check_site("POST", {"Origin": "http://evil.example"}, NOBODY)
    assert caught.value.code == "other_site"


def test_allowed_sites_may_change_something() -> None:
    for origin in ("https://chat.example", "HTTPS://CHAT.example", "http://localhost:3000"):
        assert passes("POST", {"Origin": origin, "Sec-Fetch-Site": "cross-site"}, CHAT)
        assert passes("POST", {"Origin": origin}, CHAT)
    assert not passes("POST", {"Sec-Fetch-Site": "cross-site"}, CHAT)
    assert not passes("POST", {"Origin": "https://chat.example.evil"}, CHAT)


@given(st.dictionaries(st.sampled_from(["Origin", "Sec-Fetch-Site", "Host", "Upgrade"]), st.text(max_size=40)))
def test_any_headers_give_an_answer(headers: dict[str, str]) -> None:
    passes("POST", headers, CHAT)
    cors_headers(headers.get("Origin"), CHAT)


@pytest.mark.parametrize(
    ("pattern", "origin", "expected"),
    [
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evil.com/.example.com", False),
        ("https://*.example.com", "https://a.exampleXcom", False),
        ("http://host?", "http://host1", True),
        ("http://host?", "http://host", False),
        ("https://chat.example/", "https://chat.example", True),
        ("*", "null", True),
    ],
)
def test_wild_cards_in_origins(pattern: str, origin: str, expected: bool) -> None:
    assert AllowedOrigins((pattern,)).has(origin) is expected


def test_an_endless_origin_is_not_looked_at() -> None:
    assert not AllowedOrigins(("*",)).has("x" * 501)


def test_who_may_read_answers() -> None:
    assert cors_headers("https://chat.example", NOBODY) == {}
    assert cors_headers("https://evil.example", CHAT) == {"Vary": "Origin"}
    assert cors_headers(None, CHAT) == {"Vary": "Origin"}
    granted = cors_headers("https://chat.example", CHAT)
    assert granted["Access-Control-Allow-Origin"] == "https://chat.example"
    assert granted["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in granted
    assert cors_headers(None, AllowedOrigins(("*",)))["Access-Control-Allow-Origin"] == "*"


def test_questions_before_a_request() -> None:
    asked = CIMultiDict(
        {
            "Origin": "https://chat.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x\x00-api-key",
            "Access-Control-Request-Private-Network": "true",
        }
    )
    assert is_preflight("OPTIONS", asked)
    assert not is_preflight("POST", asked)
    assert not is_preflight("OPTIONS", {"Origin": "x"})
    answer = preflight_headers(asked, CHAT)
    assert "POST" in answer["Access-Control-Allow-Methods"]
    assert answer["Access-Control-Allow-Headers"] == "content-type, x-api-key"
    assert answer["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Headers" not in preflight_headers({"Origin": "https://chat.example"}, CHAT)
    assert preflight_headers(asked, NOBODY) == {}
