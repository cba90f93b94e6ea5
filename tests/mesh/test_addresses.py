from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.addresses import BadMultiaddr, check_multiaddr, multiaddr_problem, split_peer

ED25519 = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
RSA = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
SECP256K1 = "16Uiu2HAmMfBEGdtsr16L9gBqz6dCLbJt6zuAFdfxTvQFBSBHtBWQ"


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/0.0.0.0/tcp/0",
        "/ip6/::/tcp/0",
        "/ip4/192.168.1.7/tcp/4001",
        "/ip6/fe80::1/tcp/65535",
        "/dns/bootstrap.libp2p.io/tcp/4001",
        "/dns4/box/tcp/4001",
        "/dns6/my_box.local./tcp/4001",
        f"/ip4/192.168.1.7/tcp/4001/p2p/{ED25519}",
    ],
)
def test_addresses_to_listen_on(text: str) -> None:
    assert check_multiaddr(text, needs_peer=False) == text


@pytest.mark.parametrize("peer_id", [ED25519, RSA, SECP256K1])
def test_addresses_to_dial_end_in_an_id_of_any_key_type(peer_id: str) -> None:
    text = f"/dns/bootstrap.libp2p.io/tcp/4001/p2p/{peer_id}"
    assert check_multiaddr(text, needs_peer=True) == text
    assert split_peer(text) == ("/dns/bootstrap.libp2p.io/tcp/4001", peer_id)


@pytest.mark.parametrize(
    ("text", "needs_peer", "problem"),
    [
        ("", False, "it must look like /ip4/192.168.1.7/tcp/4001"),
        ("192.168.1.7:4001", True, "it must look like /ip4/192.168.1.7/tcp/4001/p2p/12D3KooW..."),
        ("ip4/1.2.3.4/tcp/1", False, "it must look like /ip4/192.168.1.7/tcp/4001"),
        ("/ip4/1.2.3.4/udp/1/quic-v1", False, "it must look like /ip4/192.168.1.7/tcp/4001"),
        ("/ip4/1.2.3.4/tcp/1/ws", False, "it must look like /ip4/192.168.1.7/tcp/4001"),
        ("/ip4/1.2.3.4/tcp/1/", False, "it must look like /ip4/192.168.1.7/tcp/4001"),
        (f"/ip4/1.2.3.4/tcp/1/ipfs/{RSA}", True, "it must look like /ip4/192.168.1.7/tcp/4001/p2p/12D3KooW..."),
        ("/unix/x/tcp/1", False, '"unix" is not one of ip4, ip6, dns, dns4, dns6'),
        ("/ip4/300.1.1.1/tcp/1", False, '"300.1.1.1" is not an IPv4 address'),
        ("/ip4/::1/tcp/1", False, '"::1" is not an IPv4 address'),
        ("/ip6/1.2.3.4/tcp/1", False, '"1.2.3.4" is not an IPv6 address'),
        ("/ip6/fe80::1%eth0/tcp/1", False, '"fe80::1%eth0" names an interface, which an address here cannot do'),
        ("/dns//tcp/1", False, '"" is not a DNS name'),
        ("/dns/a b/tcp/1", False, '"a b" is not a DNS name'),
        (f"/dns4/{'a.' * 126}aa/tcp/1", False, f'"{"a." * 126}aa" is not a DNS name'),
        ("/ip4/1.2.3.4/tcp/", False, '"" is not a port from 0 to 65535'),
        ("/ip4/1.2.3.4/tcp/-1", False, '"-1" is not a port from 0 to 65535'),
        ("/ip4/1.2.3.4/tcp/٤", False, '"٤" is not a port from 0 to 65535'),
        ("/ip4/1.2.3.4/tcp/65536", False, '"65536" is not a port from 0 to 65535'),
        (f"/ip4/1.2.3.4/tcp/0/p2p/{RSA}", True, '"0" is not a port from 1 to 65535'),
        ("/ip4/1.2.3.4/tcp/1", True, "it does not end in /p2p/ and the id of the node"),
        ("/ip4/1.2.3.4/tcp/1/p2p/", True, '"" is not the base58 text of a peer id'),
        ("/ip4/1.2.3.4/tcp/1/p2p/O0Il", False, '"O0Il" is not the base58 text of a peer id'),
    ],
)
def test_what_is_wrong_is_said(text: str, needs_peer: bool, problem: str) -> None:
    assert multiaddr_problem(text, needs_peer=needs_peer) == problem
    with pytest.raises(BadMultiaddr) as caught:
        check_multiaddr(text, needs_peer=needs_peer)
    assert caught.value.message == f'The address "{text}" cannot be used: {problem}.'


def test_a_long_text_is_not_echoed_in_full() -> None:
    with pytest.raises(BadMultiaddr, match="has more than 512 characters") as caught:
        check_multiaddr(f"/dns/box/tcp/1/p2p/{'a' * 100_000}", needs_peer=False)
    assert len(caught.value.message) < 600


def test_only_addresses_to_dial_can_be_split() -> None:
    with pytest.raises(BadMultiaddr, match="/p2p/"):
        split_peer("/ip4/1.2.3.4/tcp/1")


PARTS = st.lists(st.sampled_from(["", "ip4", "dns", "1.2.3.4", "::1", "tcp", "0", "4001", "p2p", RSA, "%"]), max_size=9)


@given(st.text(max_size=60) | PARTS.map("/".join), st.booleans())
def test_any_text_is_an_address_or_our_error(text: str, needs_peer: bool) -> None:
    with suppress(BadMultiaddr):
        assert check_multiaddr(text, needs_peer=needs_peer) == text
        assert "/tcp/" in text


@given(st.ip_addresses(), st.integers(1, 65535), st.sampled_from([ED25519, RSA, SECP256K1]))
def test_addresses_are_split_where_they_were_joined(host: object, port: int, peer_id: str) -> None:
    address = f"/ip{6 if ':' in str(host) else 4}/{host}/tcp/{port}"
    assert split_peer(f"{address}/p2p/{peer_id}") == (address, peer_id)
