"""Where requests go on to, and what they carry."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.plan import Headers
from localai.node.sources.redirects import carried_headers, check_download_url, next_url, origin

HEADERS: Headers = (("Authorization", Secret("Bearer x")), ("Accept", "a"), ("X-Key", Secret("k")), ("cookie", "c"))


def test_addresses_that_can_be_fetched() -> None:
    check_download_url("https://x/y", has_hash=False)
    check_download_url("http://x/y", has_hash=True)
    with pytest.raises(InvalidRequest, match="Give its SHA-256 too"):
        check_download_url("http://x/y", has_hash=False)
    for url in (
        "",
        "x",
        "file:///etc/passwd",
        "ftp://x/y",
        "https://",
        "https://x:99999/",
        "https://x:0/",
        "https://x/a b",
        "https://x/ü",
        "https://[x/",
    ):
        with pytest.raises(InvalidRequest, match="cannot be fetched"):
            check_download_url(url, has_hash=True)


def test_where_a_redirect_leads() -> None:
    assert next_url("https://a/b/c", "/d?e=%2F") == "https://a/d?e=%2F"
    assert next_url("https://a/b/c", "d") == "https://a/b/d"
    assert next_url("http://a/b", "https://c/d") == "https://c/d"
    assert next_url("http://a/b", "http://c/d") == "http://c/d"
    assert next_url("https://a/b", "/d e\r\nX: y/ü\udcff") == "https://a/d%20e%0D%0AX:%20y/%C3%BC%FF"


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "javascript:x", "https://[x/", "https://x:0/"])
def test_redirects_to_nowhere(location: str) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        next_url("https://a/b", location)
    assert caught.value.code == "bad_redirect"


def test_https_never_becomes_http() -> None:
    with pytest.raises(UpstreamFailed, match=r"^a sends the download on from https to plain http"):
        next_url("https://a/b", "http://a/b")


def test_secrets_stay_on_their_host() -> None:
    everything = {"Authorization": "Bearer x", "Accept": "a", "X-Key": "k", "cookie": "c"}
    assert carried_headers(HEADERS, "https://a/1", "https://A:443/2") == everything
    for url in ("https://b/1", "https://a:8443/1", "http://a/1", "https://sub.a/1"):
        assert carried_headers(HEADERS, "https://a/1", url) == {"Accept": "a"}


def test_secrets_never_go_over_plain_http_to_another_machine() -> None:
    assert carried_headers(HEADERS, "http://a/1", "http://a/1") == {"Accept": "a"}
    assert carried_headers(HEADERS, "http://10.0.0.1/", "http://10.0.0.1/") == {"Accept": "a"}
    for here in ("http://localhost/1", "http://127.0.0.1:8/1", "http://[::1]/1"):
        assert len(carried_headers(HEADERS, here, here)) == 4


def test_origins() -> None:
    assert origin("https://a/b") == origin("https://A:443/c") == ("https", "a", 443)
    assert origin("http://a/b") == ("http", "a", 80)


@given(st.text(max_size=40))
def test_any_location_leads_to_the_web_or_is_refused(location: str) -> None:
    with suppress(UpstreamFailed):
        assert next_url("https://a/b", location).startswith("https://")
