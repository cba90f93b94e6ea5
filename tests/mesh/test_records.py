"""Vectors and laws of signed, sealed records. A vector that changes is a new version of the wire."""

from __future__ import annotations

import base64
import dataclasses
import random
from contextlib import suppress
from functools import partial

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.envelope import seal_record
from localai.mesh.errors import WireError
from localai.mesh.ids import NetworkId, PeerId, peer_id_from_public_key
from localai.mesh.network_token import ALPHABET, NetworkToken, new_network_token, parse_network_token
from localai.mesh.otp import next_rotation, window_at
from localai.mesh.records import (
    MAX_BODY_BYTES,
    MAX_NUMBER,
    MAX_RECORD_BYTES,
    SignedRecord,
    open_sealed,
    records_key,
    records_keys,
    records_topic,
    records_topics,
    seal,
    sign_record,
    verify_record,
)

TOKEN = parse_network_token(
    base64.b64encode(
        b"""otp:
  dht: {interval: 360, key: Tb4YqWm9ZkRx7NcV2LhPs5GdJf8UaEo3KiMt6QnXrC1, length: 43}
  crypto: {interval: 9000, key: Hv8LcXr3QbNm5ZtKs9WyPd2GfJa7UeRo4TiMk6VxYn1, length: 43}
room: pQ7mZr2VxKc9LbT4nWd8HsYf6GjA3uEoRi5CkXqMvB1
mdns: Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1
max_message_size: 20971520
"""
    ).decode()
)
NOW = 1_750_000_000
HOME = NetworkId("home")
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
AUTHOR = PeerId("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
EPOCH = 1_749_999_000_123
NONCE = bytes(range(12))
KEY = bytes.fromhex("2c5d89321ace11ce44b95f82c0d0f3812eb7f438e2596d137439d23ad2e7cc87")
SIGNATURE = bytes.fromhex(
    "c05efea7302e91dad8ff041bcb4eae16b0b80b73adc02c42da106e9a985c51934f81444f76568e6e9576292db6bf1c2b"
    "c502824ccfcfcb9ac76b18b67255be03"
)
SEALED = bytes.fromhex(
    "9501d934313244334b6f6f5744704a3741733742574177524d6675315655325743714e6a76713338374a45594b44426a"
    "346b78366e58544ecf0000019774119a3b07c461000102030405060708090a0b314f04fea9791f3fbf07327cbb0d517c"
    "fa70c0a177911104e3e97d4c77ccb4b7b694246b7cba56ba37c31ef8d5f7fe32bab6f3e5ea04672e39054b136b6fc462"
    "cfd6e8d8258838058ebff1e2c39999498382983887"
)


def signed(body: bytes = b"hello", seq: int = 7, network_id: NetworkId = HOME) -> SignedRecord:
    return sign_record(AUTHOR, EPOCH, seq, body, network_id, PRIVATE_KEY.sign)


def other_token() -> NetworkToken:
    drawn = random.Random(1)
    return new_network_token(lambda length: "".join(drawn.choices(ALPHABET, k=length)))


def sealed_by_hand(*fields: object) -> bytes:
    """An outer array of these fields, with an inner part that opens."""
    version, author, epoch, seq, inner = fields[:5]
    assert isinstance(inner, bytes)
    bound_to = b"localai-mesh/sealed-record/1" + msgspec.msgpack.encode([author, epoch, seq])
    return msgspec.msgpack.encode([version, author, epoch, seq, seal_record(inner, KEY, NONCE, bound_to), *fields[5:]])


by_hand = partial(sealed_by_hand, 1, AUTHOR, EPOCH, 7)


def test_the_vectors() -> None:
    assert records_key(TOKEN, HOME, NOW) == KEY
    assert records_topic(TOKEN, HOME, NOW) == "c12e2a7a91a6e4773e799c51f117680b"
    assert records_topic(TOKEN, NetworkId(""), NOW) == "a40330636ff03836c9afeb3e41fccc08"
    record = signed()
    assert record.signature == SIGNATURE
    assert seal(record, KEY, NONCE) == SEALED
    assert open_sealed(SEALED, KEY) == record
    verify_record(record, HOME)


def test_what_is_signed_is_written_in_one_way() -> None:
    message = b"localai-mesh/record/1" + msgspec.msgpack.encode(["home", AUTHOR, EPOCH, 7, b"hello"])
    assert signed().signature == PRIVATE_KEY.sign(message)


@given(st.binary(max_size=300), st.integers(0, MAX_NUMBER), st.integers(0, MAX_NUMBER))
def test_every_record_comes_back(body: bytes, epoch: int, seq: int) -> None:
    record = sign_record(AUTHOR, epoch, seq, body, HOME, PRIVATE_KEY.sign)
    opened = open_sealed(seal(record, KEY, NONCE), KEY)
    verify_record(opened, HOME)
    assert opened == record
    assert opened.position == (epoch, seq)


def test_a_full_body_fits() -> None:
    record = signed(bytes(MAX_BODY_BYTES))
    data = seal(record, KEY, NONCE)
    assert len(data) < MAX_RECORD_BYTES
    assert open_sealed(data, KEY) == record


def test_a_record_shows_neither_body_nor_signature() -> None:
    assert "hello" not in repr(signed())
    assert "signature" not in repr(signed())


def opens_and_verifies(data: bytes) -> bool:
    try:
        verify_record(open_sealed(data, KEY), HOME)
    except WireError:
        return False
    return True


def test_no_flipped_bit_of_the_vector_opens_and_verifies() -> None:
    for bit in range(len(SEALED) * 8):
        changed = bytearray(SEALED)
        changed[bit // 8] ^= 1 << bit % 8
        assert not opens_and_verifies(bytes(changed)), bit


@given(st.binary(max_size=300), st.integers(0, 2**40), st.data())
def test_a_flipped_bit_never_opens_and_verifies(body: bytes, seq: int, data: st.DataObject) -> None:
    sealed = bytearray(seal(signed(body, seq), KEY, NONCE))
    assert opens_and_verifies(bytes(sealed))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert not opens_and_verifies(bytes(sealed))


@given(st.binary(max_size=400))
def test_random_bytes_only_raise_wire_errors(data: bytes) -> None:
    with pytest.raises(WireError):
        open_sealed(data, KEY)


FIELDS = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=80) | st.text(max_size=60) | st.none() | st.floats()


@given(st.lists(st.just(1) | st.just(AUTHOR) | FIELDS, max_size=7))
def test_random_fields_only_raise_wire_errors(fields: list[object]) -> None:
    with pytest.raises(WireError):
        open_sealed(msgspec.msgpack.encode(fields), KEY)


@given(
    st.integers(-3, 2**64 - 1), st.just(AUTHOR) | st.text(max_size=60), st.integers(-(2**63), 2**64 - 1), st.binary()
)
def test_random_fields_of_a_member_open_or_raise_wire_errors(version: int, author: str, seq: int, inner: bytes) -> None:
    with suppress(WireError):
        record = open_sealed(sealed_by_hand(version, author, EPOCH, seq, inner), KEY)
        with pytest.raises(WireError):
            verify_record(record, HOME)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(MAX_RECORD_BYTES + 1), "over the limit"),
        (b"", "could not be decoded"),
        (b"\x80", "could not be decoded"),
        (SEALED[:-1], "could not be decoded"),
        (SEALED + b"\x00", "could not be decoded"),
        (b"\x96" + SEALED[1:] + b"\x91" * 30_000, "could not be decoded"),
        (msgspec.msgpack.encode([1, AUTHOR, EPOCH, 7]), "could not be decoded"),
        (b"\x95\x01\xa1\xff" + bytes(3), "could not be decoded"),
        (msgspec.msgpack.encode([1, AUTHOR, EPOCH, 7, b"short"]), "too short"),
        (msgspec.msgpack.encode([2, "a future form"]), "version 2; this node knows 1"),
        (by_hand(bytes(63)), "no signature"),
        (by_hand(bytes(MAX_BODY_BYTES + 65)), "over the limit"),
        (sealed_by_hand(1, AUTHOR, -1, 7, bytes(64)), "not between"),
        (sealed_by_hand(1, AUTHOR, EPOCH, MAX_NUMBER + 1, bytes(64)), "not between"),
        (sealed_by_hand(1, AUTHOR + "\n", EPOCH, 7, bytes(64)), "usual form"),
        (sealed_by_hand(1, "nobody", EPOCH, 7, bytes(64)), "peer id"),
    ],
)
def test_what_is_no_sealed_record_is_a_wire_error(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        open_sealed(data, KEY)


def test_fields_of_later_versions_are_ignored() -> None:
    record = signed()
    assert open_sealed(by_hand(record.body + record.signature, {"new": [1, None]}, b"more"), KEY) == record


def test_a_sealed_record_cannot_be_passed_off_as_another_one() -> None:
    other = peer_id_from_public_key(bytes(32))
    sealed = msgspec.msgpack.decode(SEALED)[4]
    for author, epoch, seq in ((other, EPOCH, 7), (AUTHOR, EPOCH + 1, 7), (AUTHOR, EPOCH, 8)):
        with pytest.raises(WireError, match="does not open"):
            open_sealed(msgspec.msgpack.encode([1, author, epoch, seq, sealed]), KEY)


def test_a_record_verifies_only_as_it_was_written() -> None:
    record = signed()
    verify_record(record, HOME)
    other = peer_id_from_public_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    for changed in (
        dataclasses.replace(record, author=other),
        dataclasses.replace(record, epoch=EPOCH + 1),
        dataclasses.replace(record, seq=8),
        dataclasses.replace(record, body=b"hallo"),
        dataclasses.replace(record, signature=record.signature[:-1]),
        dataclasses.replace(record, signature=b""),
        dataclasses.replace(record, version=2),
        signed(network_id=NetworkId("office")),
        signed(network_id=NetworkId("")),
    ):
        with pytest.raises(WireError):
            verify_record(changed, HOME)


@pytest.mark.parametrize(
    ("author", "epoch", "seq", "body"),
    [
        (AUTHOR, EPOCH, 7, bytes(MAX_BODY_BYTES + 1)),
        (AUTHOR, -1, 7, b""),
        (AUTHOR, EPOCH, MAX_NUMBER + 1, b""),
        (AUTHOR + " ", EPOCH, 7, b""),
        ("nobody", EPOCH, 7, b""),
    ],
)
def test_what_nobody_would_accept_is_neither_signed_nor_sealed(author: str, epoch: int, seq: int, body: bytes) -> None:
    with pytest.raises(WireError):
        sign_record(PeerId(author), epoch, seq, body, HOME, PRIVATE_KEY.sign)
    with pytest.raises(WireError):
        seal(SignedRecord(PeerId(author), epoch, seq, body, bytes(64)), KEY, NONCE)


def test_keys_and_topics_belong_to_one_token_one_network_and_one_window() -> None:
    values: set[bytes | str] = set()
    for token in (TOKEN, other_token()):
        for network_id in (NetworkId(""), HOME):
            for now in (NOW, NOW + 9000):
                values |= {records_key(token, network_id, now), records_topic(token, network_id, now)}
                assert len(records_key(token, network_id, now)) == 32
                assert records_topic(token, network_id, now) != window_at(token, now).topic
    assert len(values) == 16


@given(st.floats(0, 4e9))
def test_a_value_holds_for_its_window_and_no_longer(now: float) -> None:
    rotation = next_rotation(TOKEN, now)
    assert records_key(TOKEN, HOME, now) == records_key(TOKEN, HOME, rotation - 1)
    assert records_key(TOKEN, HOME, now) != records_key(TOKEN, HOME, rotation)
    topic = records_topic(TOKEN, HOME, now)
    assert topic == records_topic(TOKEN, HOME, rotation - 1) != records_topic(TOKEN, HOME, rotation)
    assert len(topic) == 32
    assert set(topic) <= set("0123456789abcdef")


def test_around_a_rotation_both_windows_are_accepted() -> None:
    rotation = next_rotation(TOKEN, NOW)
    for accepted in (records_keys, records_topics):
        assert len(accepted(TOKEN, HOME, rotation - 100)) == 1
        before, after = accepted(TOKEN, HOME, rotation - 10), accepted(TOKEN, HOME, rotation + 10)
        assert before == after[::-1]
        assert len(before) == 2
    assert records_keys(TOKEN, HOME, rotation - 10)[0] == records_key(TOKEN, HOME, NOW)
    assert records_topics(TOKEN, HOME, rotation - 10)[0] == records_topic(TOKEN, HOME, NOW)
    assert len(records_keys(TOKEN, HOME, 0.0)) == 1


def test_short_windows_within_the_tolerance_are_all_accepted_nearest_first() -> None:
    crypto = dataclasses.replace(TOKEN.crypto, interval_s=10)
    token = dataclasses.replace(TOKEN, crypto=crypto)
    expected = [NOW + step for step in (0, -10, 10, -20, 20)]
    assert list(records_keys(token, HOME, NOW + 5, 20)) == [records_key(token, HOME, now) for now in expected]
