from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest, TooLarge
from localai.node.fetch_rules import (
    Media,
    check_media_url,
    check_network,
    is_allowed_address,
    media_too_large,
    parse_data_url,
    parse_networks,
)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_allowed_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:1234::1",
        "2001:db8::1",
        "100::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
    ],
)
def test_everything_else(address: str) -> None:
    assert not is_allowed_address(address)


def test_networks_of_the_owner_are_allowed_beside_public_ones() -> None:
    networks = parse_networks(("192.168.1.7/24", "10.0.0.1", "fd00::/8"))
    for allowed in ("192.168.1.99", "::ffff:192.168.1.99", "10.0.0.1", "fd12::1", "8.8.8.8"):
        assert is_allowed_address(allowed, networks)
    for refused in ("192.168.2.1", "10.0.0.2", "127.0.0.1", "169.254.169.254"):
        assert not is_allowed_address(refused, networks)


@pytest.mark.parametrize("text", ["nas", "192.168.1.0/33", "", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="needs networks such as"):
        check_network(text)


@given(st.text(max_size=40) | st.ip_addresses().map(str))
def test_any_text_gets_an_answer(text: str) -> None:
    is_allowed_address(text)


@pytest.mark.parametrize("url", ["http://a/b", "https://a.example:8443/x?y=%20", "http://[::1]/", "http://127.1/"])
def test_addresses_of_the_web_pass(url: str) -> None:
    check_media_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "ftp://a/b",
        "gopher://a/",
        "//a/b",
        "http://",
        "http://user:secret@a/",
        "http://a:0/",
        "http://a:99999/",
        "http://[::1/",
        "http://a/\r\nX: y",
        "http://a b/",
        "http://１２７.0.0.1/",
        "http://a/" + "x" * 5000,
    ],
)
def test_other_addresses_do_not(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_media_url(url)
    assert caught.value.code == "invalid_media_url"
    caught.value.message.encode("ascii")


def test_what_a_data_url_holds() -> None:
    packed = base64.b64encode(b"\x89PNG").decode()
    assert parse_data_url(f"data:image/PNG;base64,{packed}", 100) == Media("image/png", b"\x89PNG")
    assert parse_data_url(f"DATA:;charset=x; BASE64,{packed.replace('=', '%3D')}", 100) == Media("", b"\x89PNG")
    assert parse_data_url("data:text/plain,a%20b", 100) == Media("text/plain", b"a b")
    assert parse_data_url("https://a/", 100) is None


@pytest.mark.parametrize("url", ["data:", "data:image/png;base64", "data:;base64,%%%", "data:" + "x" * 300 + ","])
def test_a_broken_data_url(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_data_url(url, 100)


def test_a_data_url_is_bounded() -> None:
    assert parse_data_url("data:," + "%41" * 10, 10) == Media("", b"A" * 10)
    for url in ("data:," + "A" * 11, "data:," + "A" * 1000, "data:;base64," + "QUFB" * 4):
        with pytest.raises(TooLarge) as caught:
            parse_data_url(url, 10)
        assert caught.value.message == media_too_large(10).message


@given(st.text(max_size=60))
def test_any_data_url_gives_media_or_our_error(text: str) -> None:
    with suppress(InvalidRequest, TooLarge):
        assert parse_data_url("data:" + text, 50) is not None
