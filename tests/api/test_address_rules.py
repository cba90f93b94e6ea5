from __future__ import annotations

import pytest

from localai.api.address_rules import Reach, check_exposure, check_host, host_name, is_wildcard, reach_of
from localai.mesh.errors import Forbidden, SetupError


@pytest.mark.parametrize(
    ("addresses", "reach"),
    [
        ([], "loopback"),
        (["127.0.0.1", "::1", "127.1.2.3"], "loopback"),
        (["127.0.0.1", "192.168.1.5"], "private"),
        (["10.0.0.1"], "private"),
        (["fe80::1%eth0"], "private"),
        (["fd00::1"], "private"),
        (["169.254.3.4"], "private"),
        (["100.64.0.1"], "private"),
        (["::ffff:192.168.0.1"], "private"),
        (["::ffff:8.8.8.8"], "public"),
        (["192.168.1.5", "8.8.8.8"], "public"),
        (["2001:4860:4860::8888"], "public"),
    ],
)
def test_the_widest_reach_counts(addresses: list[str], reach: Reach) -> None:
    assert reach_of(addresses) == reach


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "::%eth0"])
def test_every_spelling_of_every_interface_is_known(address: str) -> None:
    assert is_wildcard(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.168.1.5", "fe80::1%eth0"])
def test_one_interface_is_not_every_interface(address: str) -> None:
    assert not is_wildcard(address)


def test_who_may_listen_without_a_key() -> None:
    assert check_exposure("loopback", has_keys=False, allow_anonymous=False) is None
    assert check_exposure("public", has_keys=True, allow_anonymous=False) is None
    assert "LOCALAI_API_KEY" in (check_exposure("private", has_keys=False, allow_anonymous=False) or "")
    assert "--allow-anonymous" in (check_exposure("public", has_keys=False, allow_anonymous=True) or "")
    with pytest.raises(SetupError, match="--allow-anonymous"):
        check_exposure("public", has_keys=False, allow_anonymous=False)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8080", "localhost"),
        ("LocalHost.", "localhost"),
        ("[::1]:8080", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("box.local:80", "box.local"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1",
        "app.localhost",
        "127.0.0.1:8080",
        "[::1]:8080",
        "192.168.3.4",
        "box:9",
        "BOX",
        "ai.lan",
    ],
)
def test_names_that_are_ours(host: str) -> None:
    check_host(host, {"box", "ai.lan"})


@pytest.mark.parametrize("host", ["evil.com", "evil.com:8080", "localhost.evil.com", "127.0.0.1.evil.com", "boxx"])
def test_names_that_are_not_are_refused_with_the_way_to_add_them(host: str) -> None:
    with pytest.raises(Forbidden, match="--allowed-hosts") as caught:
        check_host(host, {"box", "ai.lan"})
    assert caught.value.code == "host_not_allowed"


def test_a_missing_name_and_one_that_is_no_text_give_a_message_that_can_be_sent() -> None:
    with pytest.raises(Forbidden, match="names no host"):
        check_host("", {"box"})
    with pytest.raises(Forbidden) as caught:
        check_host("evil\udcff\n.com:80", {"box"})
    assert r"'evil\udcff" in caught.value.message
    caught.value.message.encode("ascii")
