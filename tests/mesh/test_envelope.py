from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh import envelope
from localai.mesh.envelope import KEY_BYTES, open_hex, open_record, record_key, seal_hex, seal_record
from localai.mesh.errors import WireError
from localai.mesh.network_token import ALPHABET, NetworkToken, new_network_token

KEY = b"253b7090ddb1d47696318aceee1c85f3"
NONCE = bytes(range(12))


def token(seed: int) -> NetworkToken:
    drawn = random.Random(seed)
    return new_network_token(lambda length: "".join(drawn.choices(ALPHABET, k=length)))


def test_the_published_vector() -> None:
    sealed = "000102030405060708090a0b4e81b916c809f0667fa3d9fa6254d13ac075d66a7e"
    assert seal_hex(b"hello", KEY, NONCE) == sealed
    assert open_hex(sealed, KEY) == b"hello"
    assert open_hex(sealed.upper(), KEY) == b"hello"


@pytest.mark.parametrize("text", ["", "zz", "00", "00" * 27, "é", "0" * 57])
def test_what_is_no_envelope_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        open_hex(text, KEY)


def test_an_endless_envelope_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_SEALED_BYTES", 40)
    with pytest.raises(WireError, match="too long"):
        open_hex("00" * 41, KEY)


@given(st.binary(max_size=200), st.binary(min_size=12, max_size=12), st.data())
def test_a_flipped_bit_never_opens(plaintext: bytes, nonce: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal_record(plaintext, KEY, nonce, b"topic"))
    assert open_record(bytes(sealed), KEY, b"topic") == plaintext
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        open_record(bytes(sealed), KEY, b"topic")


def test_a_record_opens_only_for_what_it_was_sealed() -> None:
    sealed = seal_record(b"x", KEY, NONCE, b"author 1, sequence 7")
    for other in (b"", b"author 1, sequence 8", b"author 2, sequence 7"):
        with pytest.raises(WireError):
            open_record(sealed, KEY, other)


def test_keys_belong_to_one_token_one_network_and_one_purpose() -> None:
    keys = {
        record_key(token(seed), network, purpose)
        for seed in (1, 2)
        for network in ("", "office")
        for purpose in ("records", "session")
    }
    assert len(keys) == 8
    assert {len(key) for key in keys} == {KEY_BYTES}
    assert record_key(token(1), "", "records") == record_key(token(1), "", "records")
