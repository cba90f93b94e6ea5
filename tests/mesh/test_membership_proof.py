from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.ids import NetworkId, PeerId, peer_id_from_public_key
from localai.mesh.membership_proof import PROOF_BYTES, check_membership, membership_proof
from localai.mesh.network_token import NetworkToken, parse_network_token


def token(room: str) -> NetworkToken:
    document = f"""otp:
  dht: {{interval: 360, key: Tb4YqWm9ZkRx7NcV2LhPs5GdJf8UaEo3KiMt6QnXrC1, length: 43}}
  crypto: {{interval: 9000, key: Hv8LcXr3QbNm5ZtKs9WyPd2GfJa7UeRo4TiMk6VxYn1, length: 43}}
room: {room}
mdns: Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1
max_message_size: 20971520
"""
    return parse_network_token(base64.b64encode(document.encode()).decode())


TOKEN = token("pQ7mZr2VxKc9LbT4nWd8HsYf6GjA3uEoRi5CkXqMvB1")
HOME = NetworkId("home")
PROVER = PeerId("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
VERIFIER = peer_id_from_public_key(bytes(range(32)))
PROOF = bytes.fromhex("a7dff57892b9d14502ca6f032c6f092470bcf4c54e0ab704e22f660c81f06ca8")


def test_the_vector() -> None:
    assert VERIFIER == "12D3KooW9pP4Seg3kZYhySpuVjn1RPdQBsUFZKiFxGMGQN5MeL6A"
    assert membership_proof(TOKEN, HOME, PROVER, VERIFIER) == PROOF
    assert len(PROOF) == PROOF_BYTES
    assert check_membership(PROOF, TOKEN, HOME, PROVER, VERIFIER)


@pytest.mark.parametrize(
    ("network_token", "network_id", "prover", "verifier"),
    [
        (token("another"), HOME, PROVER, VERIFIER),
        (TOKEN, NetworkId(""), PROVER, VERIFIER),
        (TOKEN, NetworkId("office"), PROVER, VERIFIER),
        (TOKEN, HOME, VERIFIER, PROVER),
        (TOKEN, HOME, PROVER, PROVER),
        (TOKEN, HOME, VERIFIER, VERIFIER),
        (TOKEN, HOME, PROVER, peer_id_from_public_key(bytes(32))),
    ],
    ids=["token", "no-network", "network", "sent-back", "itself", "prover", "verifier"],
)
def test_a_proof_is_for_one_network_and_one_pair(
    network_token: NetworkToken, network_id: NetworkId, prover: PeerId, verifier: PeerId
) -> None:
    assert not check_membership(PROOF, network_token, network_id, prover, verifier)


@given(st.binary(max_size=64) | st.integers(0, PROOF_BYTES - 1).map(lambda length: PROOF[:length]))
def test_random_and_cut_bytes_are_no_proof(proof: bytes) -> None:
    assert not check_membership(proof, TOKEN, HOME, PROVER, VERIFIER)


@given(st.integers(0, PROOF_BYTES * 8 - 1))
def test_a_flipped_bit_is_no_proof(bit: int) -> None:
    changed = bytearray(PROOF)
    changed[bit // 8] ^= 1 << bit % 8
    assert not check_membership(bytes(changed), TOKEN, HOME, PROVER, VERIFIER)
