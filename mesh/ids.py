"""Names of nodes and networks (pure).

A peer id is libp2p's: base58 (Bitcoin alphabet) of an identity multihash that holds an Ed25519 public key, so a
signature can be checked with nothing but the id. Source: libp2p peer id specification; multihash 0x00 0x24, then the
protobuf of the key: 08 01 (type Ed25519) 12 20 (32 bytes follow).
"""

from __future__ import annotations

import re
from typing import NewType

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from localai.mesh.errors import InvalidRequest, WireError

PeerId = NewType("PeerId", str)
NetworkId = NewType("NetworkId", str)

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SHORT_CHARS = 8
"""Last characters of a peer id, for logs and headers: the first ones are the same for everybody."""
MAX_NETWORK_ID_CHARS = 64
_PREFIX = bytes.fromhex("0024080112" + "20")
_MAX_CHARS = 64
_NETWORK_ID = re.compile(r"[A-Za-z0-9._-]*")


def peer_id_from_public_key(public_key: bytes) -> PeerId:
    """The id of the node that holds the private half of this 32-byte key."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise WireError(f"An Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}.")
    return PeerId(base58.b58encode(_PREFIX + public_key).decode())


def parse_peer_id(text: str) -> PeerId:
    """The id that a text names.

    Raises:
        WireError: it is not the id of an Ed25519 key.
    """
    return peer_id_from_public_key(_public_key(text))


def short_id(peer_id: PeerId) -> str:
    """A few characters that tell nodes of one household apart."""
    return peer_id[-SHORT_CHARS:]


def verify(peer_id: PeerId, signature: bytes, message: bytes) -> None:
    """Make sure that this node signed the message.

    Raises:
        WireError: it did not, or the id is not one that can sign.
    """
    try:
        Ed25519PublicKey.from_public_bytes(_public_key(peer_id)).verify(signature, message)
    except InvalidSignature as error:
        raise WireError("A signature does not belong to its author.") from error


def parse_network_id(text: str) -> NetworkId:
    """The name of a sub-network; empty for the one without a name.

    Raises:
        InvalidRequest: it has characters that do not belong in a name, or is too long.
    """
    if len(text) > MAX_NETWORK_ID_CHARS or not _NETWORK_ID.fullmatch(text):
        raise InvalidRequest(
            f"A network id has at most {MAX_NETWORK_ID_CHARS} letters, digits, dots, dashes and underscores.",
            code="bad_network_id",
        )
    return NetworkId(text)


def _public_key(text: str) -> bytes:
    if len(text) > _MAX_CHARS:
        raise WireError("A peer id is too long.")
    try:
        decoded = base58.b58decode(text)
    except ValueError as error:
        raise WireError("A peer id is not base58.") from error
    if not decoded.startswith(_PREFIX) or len(decoded) != len(_PREFIX) + PUBLIC_KEY_BYTES:
        raise WireError("A peer id does not name an Ed25519 key.")
    return decoded[len(_PREFIX) :]
