from __future__ import annotations

import base58
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest, WireError
from localai.mesh.ids import (
    SHORT_CHARS,
    parse_network_id,
    parse_peer_id,
    peer_id_from_public_key,
    short_id,
    verify,
)

# The private key of all zeros has this public key (RFC 8032 arithmetic) and, in libp2p, this id.
ZERO_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ZERO_ID = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def test_an_id_known_from_other_implementations() -> None:
    assert peer_id_from_public_key(ZERO_KEY.public_key().public_bytes_raw()) == ZERO_ID
    assert parse_peer_id(ZERO_ID) == ZERO_ID
    assert short_id(parse_peer_id(ZERO_ID)) == ZERO_ID[-SHORT_CHARS:]


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_an_id_that_reads_back(key: bytes) -> None:
    peer_id = peer_id_from_public_key(key)
    assert peer_id.startswith("12D3KooW")
    assert parse_peer_id(peer_id) == peer_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0OIl",
        "é",
        "1" * 65,
        ZERO_ID[:-1],
        ZERO_ID + "1",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        base58.b58encode(b"\x00\x24\x08\x02\x12\x20" + bytes(32)).decode(),
    ],
    ids=["empty", "alphabet", "not-ascii", "long", "short", "longer", "rsa", "secp256k1"],
)
def test_what_is_no_id_of_ours_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        parse_peer_id(text)


def test_a_key_of_another_size_is_refused() -> None:
    with pytest.raises(WireError):
        peer_id_from_public_key(b"short")


def test_only_the_author_can_sign() -> None:
    peer_id = parse_peer_id(ZERO_ID)
    signature = ZERO_KEY.sign(b"message")
    verify(peer_id, signature, b"message")
    other = peer_id_from_public_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    for author, signed, message in (
        (peer_id, signature, b"massage"),
        (other, signature, b"message"),
        (peer_id, signature[:-1], b"message"),
        (peer_id, b"", b"message"),
    ):
        with pytest.raises(WireError):
            verify(author, signed, message)


@pytest.mark.parametrize("text", ["", "home", "Office-2.floor_1", "x" * 64])
def test_network_ids(text: str) -> None:
    assert parse_network_id(text) == text


@pytest.mark.parametrize("text", ["a b", "a/b", "ä", "x" * 65, "a\n"])
def test_what_is_no_network_id(text: str) -> None:
    with pytest.raises(InvalidRequest, match="network id"):
        parse_network_id(text)
