"""Sealing what travels in the open between members of a network (pure).

Two envelopes. ``seal_hex`` is LocalAI's: AES-256-GCM, no associated data, lower-case hex of nonce, ciphertext and tag.
``seal_record`` is ours: a key derived for one purpose from the token and the network id, and associated data that binds
topic, author and sequence, so that a sealed record cannot be passed off as another one. The nonce is an argument: 12
bytes that are never used twice with one key.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localai.mesh.errors import WireError
from localai.mesh.network_token import NetworkToken

NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
MAX_SEALED_BYTES = 64 << 20


def seal_hex(plaintext: bytes, key: bytes, nonce: bytes) -> str:
    """LocalAI's envelope. Source: EdgeVPN's message sealing."""
    return (nonce + AESGCM(key).encrypt(nonce, plaintext, None)).hex()


def open_hex(text: str, key: bytes) -> bytes:
    """The plaintext of LocalAI's envelope.

    Raises:
        WireError: not hex, too long, or not sealed with this key.
    """
    if len(text) > 2 * MAX_SEALED_BYTES:
        raise WireError("A sealed message is too long.")
    try:
        sealed = bytes.fromhex(text)
    except ValueError as error:
        raise WireError("A sealed message is not hex.") from error
    return _open(sealed, key, b"")


def record_key(token: NetworkToken, network_id: str, purpose: str) -> bytes:
    """A key that only members of this network id can make, different for every purpose."""
    info = f"localai-mesh/1/{purpose}/{network_id}".encode()
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info)
    secrets = (token.crypto.key, token.room, token.dht.key)
    return derivation.derive("\0".join(secret.reveal() for secret in secrets).encode())


def seal_record(plaintext: bytes, key: bytes, nonce: bytes, bound_to: bytes) -> bytes:
    """Our envelope: nonce, ciphertext, tag. ``bound_to`` is not sent; who opens it must know it."""
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound_to)


def open_record(sealed: bytes, key: bytes, bound_to: bytes) -> bytes:
    """The plaintext of our envelope.

    Raises:
        WireError: not sealed with this key, or for something else.
    """
    return _open(sealed, key, bound_to)


def _open(sealed: bytes, key: bytes, bound_to: bytes) -> bytes:
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise WireError("A sealed message is too short.")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to or None)
    except InvalidTag as error:
        raise WireError("A sealed message does not open with this key.") from error
