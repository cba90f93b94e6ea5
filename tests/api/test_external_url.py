"""Addresses of this node as clients see them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from localai.api.external_url import external_url

OWN = "http://node:8080"


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({}, OWN),
        ({"X-Forwarded-Proto": "https"}, "https://node:8080"),
        ({"X-Forwarded-Proto": "HTTPS, http"}, "https://node:8080"),
        ({"X-Forwarded-Proto": "http, https"}, OWN),
        ({"X-Forwarded-Proto": "ftp"}, OWN),
        ({"X-Forwarded-Host": "ai.example, inner:1"}, "http://ai.example"),
        ({"x-forwarded-host": "ai.example:8443", "x-forwarded-proto": "https"}, "https://ai.example:8443"),
        ({"X-Forwarded-Host": "[::1]:8080"}, "http://[::1]:8080"),
        ({"X-Forwarded-Host": "a/b"}, OWN),
        ({"X-Forwarded-Host": "a@b", "Forwarded": "host=c"}, "http://c"),
        ({"Forwarded": 'for=1.2.3.4;Proto=https;host="ai.example:1", for=10.0.0.1;host=x'}, "https://ai.example:1"),
        ({"Forwarded": "nonsense"}, OWN),
        ({"X-Forwarded-Host": "a", "Forwarded": "host=b"}, "http://a"),
    ],
)
def test_what_proxies_say_counts_if_it_can_be_an_address(headers: dict[str, str], url: str) -> None:
    assert external_url(CIMultiDict(headers), "http", "node:8080") == url


def test_tls_here_is_tls() -> None:
    assert external_url({"X-Forwarded-Proto": "http"}, "https", "node") == "https://node"


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(("X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")), st.text()))
def test_nothing_gets_into_an_address_that_could_lead_elsewhere(headers: dict[str, str]) -> None:
    scheme, _, host = external_url(headers, "http", "node").partition("://")
    assert scheme in ("http", "https")
    assert not set(host) & set("/\\?#@ \r\n\"'<>")
