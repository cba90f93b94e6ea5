"""The lasting identity of a node: an Ed25519 key in a file that only its owner can read (shell).

The key is what other nodes know this one by, so it is written once, whole, and never overwritten. PKCS#8 PEM, as
``openssl genpkey -algorithm ed25519`` writes it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localai.mesh.errors import SetupError
from localai.mesh.ids import PeerId, peer_id_from_public_key
from localai.mesh.secrets import Secret

MAX_KEY_FILE_BYTES = 4096
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's key pair. The private half is masked."""

    peer_id: PeerId
    private_key: Secret[bytes]
    """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """A signature that ``ids.verify`` accepts for this peer id."""
        return Ed25519PrivateKey.from_private_bytes(self.private_key.reveal()).sign(message)


def load_identity(path: Path) -> Identity:
    """The identity in a file, made at the first call. Safe when several processes do this at once: all get the same.

    Raises:
        SetupError: the file cannot be read or made, is no key, or can be read by other users.
    """
    try:
        if not path.exists():
            _create(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown reason"
        message = f"The identity file {path} cannot be used: {reason}. Correct its permissions."
        raise SetupError(message, code="identity", detail=repr(error)) from error
    if mode & 0o077:
        message = f"Other users can read the identity file {path}. Make it private: chmod 600 {path}"
        raise SetupError(message, code="identity")
    return _identity(_parse(data, path))


def identity_from_private_key(private_key: bytes) -> Identity:
    """The identity that these 32 bytes make."""
    return _identity(Ed25519PrivateKey.from_private_bytes(private_key))


def _create(path: Path) -> None:
    """Write a new key under another name, then link it to its own: whoever links first wins, and nobody sees a part."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _OWNER_ONLY)
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)


def _parse(data: bytes, path: Path) -> Ed25519PrivateKey:
    advice = f"Restore {path} from a backup, or delete it to become a new node."
    if len(data) > MAX_KEY_FILE_BYTES:
        raise SetupError(f"The identity file is too long to be a key. {advice}", code="identity")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SetupError(f"The identity file does not hold a key. {advice}", code="identity") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"The identity file holds a key of another kind than Ed25519. {advice}", code="identity")
    return key


def _identity(key: Ed25519PrivateKey) -> Identity:
    return Identity(peer_id_from_public_key(key.public_key().public_bytes_raw()), Secret(key.private_bytes_raw()))
