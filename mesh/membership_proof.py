"""Proof towards one peer that a node has the network token (pure).

A proof is ``HMAC-SHA256(key, "localai-mesh/membership/1" [prover, verifier])``: a label, then one msgpack array of both
ids, under a key that only members of the network id can make. It holds no challenge and no time, and needs none. It
travels inside a Noise channel, which has authenticated both ids, so a proof is of no use to anyone but its prover,
towards anyone but its verifier: to replay it takes the prover's private key. Without the token it is 32 bytes like any
others and reveals nothing. The order of the ids is part of it, so a verifier cannot send it back as its own.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from localai.mesh.envelope import record_key
from localai.mesh.ids import NetworkId, PeerId
from localai.mesh.network_token import NetworkToken

PROOF_BYTES = 32

_LABEL = b"localai-mesh/membership/1"
_KEY_PURPOSE = "membership"


def membership_proof(token: NetworkToken, network_id: NetworkId, prover: PeerId, verifier: PeerId) -> bytes:
    """The 32 bytes with which ``prover`` shows ``verifier`` that it has the token.

    The ids are those that the channel has authenticated, not what a peer says of itself.
    """
    message = _LABEL + msgspec.msgpack.encode((prover, verifier))
    return hmac.digest(record_key(token, network_id, _KEY_PURPOSE), message, hashlib.sha256)


def check_membership(
    proof: bytes, token: NetworkToken, network_id: NetworkId, prover: PeerId, verifier: PeerId
) -> bool:
    """Whether ``prover`` has the token. Takes the same time for every wrong proof of the right length."""
    return hmac.compare_digest(proof, membership_proof(token, network_id, prover, verifier))
