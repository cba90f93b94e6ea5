from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import SetupError
from localai.mesh.ids import PeerId, peer_id_from_public_key
from localai.mesh.mdns_records import (
    DEFAULT_PORT,
    INSTANCE_CHARS,
    MAX_ADDRESSES,
    MAX_INSTANCES,
    MAX_TXT_BYTES,
    REPEAT_S,
    Found,
    Sightings,
    announced_hosts,
    announced_port,
    peer_from_txt,
    service_type,
    txt_from_addresses,
)

ALICE = peer_id_from_public_key(bytes(32))
BOB = peer_id_from_public_key(b"\1" * 32)
BOOTSTRAP = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
"""A peer id of another key type."""
TAG = "Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1"
FEW = ("/ip4/192.168.1.7/tcp/4001", "/ip6/fd00::7/tcp/4001", "/dns4/nas.local/tcp/4001")


def txt(*strings: str | bytes) -> bytes:
    encoded = [string.encode() if isinstance(string, str) else string for string in strings]
    return b"".join(bytes([len(string)]) + string for string in encoded)


def dnsaddr(address: str, peer_id: str = ALICE) -> str:
    return f"dnsaddr={address}/p2p/{peer_id}"


def test_the_service_keeps_the_case_of_the_tag_and_leaves_room_for_an_instance() -> None:
    assert service_type(TAG) == f"{TAG}.local."
    assert INSTANCE_CHARS + len(".") + len(TAG) == 63


@pytest.mark.parametrize("tag", ["", "a" * 44, "a.b", "_tcp", "a b", "ä"])
def test_a_tag_that_cannot_be_a_name_is_refused_without_showing_it(tag: str) -> None:
    with pytest.raises(SetupError, match="--p2p-peers") as caught:
        service_type(tag)
    assert "a.b" not in caught.value.message


def test_what_go_writes_is_read_as_a_list_with_loopback_last() -> None:
    data = txt(
        dnsaddr("/ip6/::1/tcp/4001"),
        dnsaddr("/ip4/127.0.0.1/tcp/4001"),
        dnsaddr("/ip4/192.168.1.7/tcp/4001"),
        dnsaddr("/ip4/192.168.1.7/udp/4001/quic-v1"),
        dnsaddr("/ip4/192.168.1.7/udp/4001/quic-v1/webtransport/certhash/uEiA"),
        dnsaddr("/ip4/192.168.1.7/tcp/4002/ws"),
        f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{BOB}/p2p-circuit/p2p/{ALICE}",
        dnsaddr("/ip6/fd00::7/tcp/4001"),
        dnsaddr("/ip6/fe80::7/tcp/4001"),
        dnsaddr("/ip4/0.0.0.0/tcp/4001"),
        dnsaddr("/ip4/224.0.0.251/tcp/5353"),
        dnsaddr("/dns4/nas.local/tcp/4001"),
    )
    assert peer_from_txt(data) == Found(ALICE, (*FEW, "/ip6/::1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"))


def test_only_strings_with_the_exact_key_count() -> None:
    good = dnsaddr("/ip4/10.0.0.1/tcp/1")
    data = txt("", "DNSADDR=/ip4/10.0.0.2/tcp/1", good.replace("dnsaddr", "dnsaddr2"), "dnsaddr", b"dnsaddr=\xff", good)
    assert peer_from_txt(data) == Found(ALICE, ("/ip4/10.0.0.1/tcp/1",))
    assert peer_from_txt(data + txt(good)) == peer_from_txt(data)


def test_several_peers_in_one_record_are_none() -> None:
    one = dnsaddr("/ip4/10.0.0.1/tcp/1")
    assert peer_from_txt(txt(one, dnsaddr("/ip4/10.0.0.2/tcp/1", BOB))) is None
    assert peer_from_txt(txt(one, dnsaddr("/ip4/10.0.0.2/tcp/1", BOOTSTRAP))) == Found(ALICE, ("/ip4/10.0.0.1/tcp/1",))
    assert peer_from_txt(txt(dnsaddr("/ip4/10.0.0.2/tcp/1", BOOTSTRAP))) is None


def test_a_record_that_is_cut_off_is_nothing() -> None:
    data = txt(dnsaddr("/ip4/10.0.0.1/tcp/1"), dnsaddr("/ip4/10.0.0.2/tcp/1"))
    assert all(peer_from_txt(data[:length]) is None for length in range(len(data)) if length != len(data) // 2)


@given(st.lists(st.binary(max_size=80) | st.text(max_size=40).map(dnsaddr)))
def test_no_string_raises(strings: list[str | bytes]) -> None:
    found = peer_from_txt(txt(*strings))
    assert found is None or found.addresses


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert peer_from_txt(data) is None


@given(
    st.lists(
        st.builds(
            "/ip4/{}/tcp/{}".format, st.sampled_from(["10.0.0.1", "192.168.1.7", "8.8.8.8"]), st.integers(1, 65535)
        )
        | st.builds("/ip6/fd00:1:2:3:4:5:6:{:x}/tcp/4001".format, st.integers(1, 65535))
        | st.builds("/dns4/{}.local/tcp/{}".format, st.text("abc", min_size=1, max_size=60), st.integers(1, 65535)),
        unique=True,
        max_size=40,
    )
)
def test_what_we_write_is_read_back_within_one_packet(addresses: list[str]) -> None:
    data = txt_from_addresses(addresses, ALICE)
    assert len(data) <= MAX_TXT_BYTES
    found = peer_from_txt(data)
    if not addresses:
        assert (data, found) == (b"", None)
        return
    assert found is not None
    assert found.peer_id == ALICE
    assert len(found.addresses) <= MAX_ADDRESSES
    assert list(found.addresses) == [address for address in addresses if address in found.addresses]
    assert found.addresses[0] == addresses[0]


def test_what_nobody_could_dial_is_not_written() -> None:
    useless = [
        "/ip4/10.0.0.1/udp/4001/quic-v1",
        "/ip4/10.0.0.1/tcp/0",
        f"/dns4/{'a.' * 99}local/tcp/4001",
        "",
    ]
    assert txt_from_addresses(useless, ALICE) == b""
    assert txt_from_addresses([*useless, *FEW], ALICE) == txt(*map(dnsaddr, FEW))


def test_at_most_sixteen_addresses_are_read_and_written() -> None:
    short = [f"/dns4/{letter}/tcp/1" for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert peer_from_txt(txt(*map(dnsaddr, short))) == Found(ALICE, tuple(short[:MAX_ADDRESSES]))
    assert txt_from_addresses(short, PeerId("Q")) == txt(*(dnsaddr(text, "Q") for text in short[:MAX_ADDRESSES]))


def test_the_other_records_are_of_the_first_addresses() -> None:
    assert announced_port(FEW) == 4001
    assert announced_port(["/dns4/x/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/x", "/ip4/10.0.0.1/tcp/7/ws"]) == 7
    assert announced_port([]) == DEFAULT_PORT
    assert announced_hosts(["/dns4/x/tcp/1", "/ip6/fd00::7/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"]) == (
        "10.0.0.1",
        "fd00::7",
    )
    assert announced_hosts(["/dns4/x/tcp/1", "/ip4/nonsense/tcp/1"]) == ()


def test_a_peer_is_news_when_new_when_changed_and_now_and_then() -> None:
    sightings = Sightings(own=BOB)
    first = txt(dnsaddr("/ip4/10.0.0.1/tcp/1"))
    second = txt(dnsaddr("/ip4/10.0.0.2/tcp/1"))
    assert sightings.seen("a", first, 0.0) == peer_from_txt(first)
    assert sightings.seen("a", first, REPEAT_S - 1) is None
    assert sightings.seen("a", second, REPEAT_S - 1) == peer_from_txt(second)
    assert sightings.seen("a", second, REPEAT_S) is None
    assert sightings.seen("a", second, 2 * REPEAT_S) == peer_from_txt(second)


def test_a_peer_that_came_back_is_news() -> None:
    sightings = Sightings(own=BOB)
    data = txt(dnsaddr("/ip4/10.0.0.1/tcp/1"))
    assert sightings.seen("a", data, 0.0)
    sightings.gone("a")
    sightings.gone("never seen")
    assert sightings.seen("a", data, 1.0)
    assert sightings.seen("an instance of a later start", data, 2.0)


def test_we_are_no_news_and_nonsense_is_none() -> None:
    sightings = Sightings(own=ALICE)
    assert sightings.seen("a", txt(dnsaddr("/ip4/10.0.0.1/tcp/1")), 0.0) is None
    assert sightings.seen("b", b"\xff", 0.0) is None


def test_a_flood_of_instances_is_forgotten_oldest_first() -> None:
    sightings = Sightings(own=BOB)
    data = txt(dnsaddr("/ip4/10.0.0.1/tcp/1"))
    for number in range(MAX_INSTANCES + 1):
        assert sightings.seen(str(number), data, 0.0)
    assert sightings.seen("1", data, 1.0) is None
    assert sightings.seen("0", data, 1.0)
