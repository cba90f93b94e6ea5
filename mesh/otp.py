"""Names and keys that rotate with time, from the secrets of a network token (pure).

All nodes with the same token and a right clock compute the same values, so that what an eavesdropper learns goes stale.
Source: LocalAI's swarm protocol: ``base64(HMAC-SHA256(key, counter))[:length]`` with the key as raw UTF-8, hashed once
more with MD5 into 32 hex characters. That is TOTP with another alphabet, so ``pyotp`` does the counting and hashing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import pyotp

from localai.mesh.network_token import NetworkToken, OtpSettings


class TextOtp(pyotp.TOTP):
    """TOTP whose key is any text and whose code is base64, as LocalAI has it. Call ``code`` only."""

    def __init__(self, settings: OtpSettings) -> None:
        self._key = settings.key.reveal().encode()
        self._length = settings.length
        super().__init__("", digest=hashlib.sha256)
        self.interval = settings.interval_s  # the constructor refuses more than two minutes

    def byte_secret(self) -> bytes:
        """The key, as it is: not base32."""
        return self._key

    def generate_otp(self, input: int) -> str:  # noqa: A002  # pyotp's name
        """The code of one time window."""
        digest: Any = hmac.new(self.byte_secret(), self.int_to_bytestring(input), self.digest).digest()
        return base64.b64encode(digest).decode()[: self._length]

    def code(self, now: float) -> str:
        """The code at an instant, seconds since 1970."""
        return self.generate_otp(int(now // self.interval))


@dataclass(frozen=True, slots=True)
class Window:
    """What holds during one time window of the crypto interval."""

    topic: str
    seal_key: bytes
    """32 bytes for AES-256-GCM: ASCII hex, as the protocol has it."""

    def __repr__(self) -> str:
        return f"Window(topic={self.topic!r}, seal_key=***)"


def rendezvous_at(token: NetworkToken, now: float) -> str:
    """The name under which nodes find each other in the DHT at an instant: 32 hex characters."""
    return _md5_hex(TextOtp(token.dht).code(now))


def rendezvous_names(token: NetworkToken, now: float) -> tuple[str, ...]:
    """Names worth trying at an instant: of the previous, the current and the next window, in this order."""
    interval = token.dht.interval_s
    return tuple(rendezvous_at(token, max(0.0, now + step * interval)) for step in (-1, 0, 1))


def window_at(token: NetworkToken, now: float) -> Window:
    """Topic and seal key at an instant."""
    room = OtpSettings(token.room, token.crypto.interval_s, token.crypto.length)
    return Window(_md5_hex(TextOtp(room).code(now)), _md5_hex(TextOtp(token.crypto).code(now)).encode())


def windows_at(token: NetworkToken, now: float, tolerance_s: float) -> tuple[Window, ...]:
    """Windows to accept at an instant: the current one first, then a neighbour that is ``tolerance_s`` or less away."""
    instants = (now, now - tolerance_s, now + tolerance_s)
    return tuple(dict.fromkeys(window_at(token, max(0.0, instant)) for instant in instants))


def next_rotation(token: NetworkToken, now: float) -> float:
    """The instant at which topic and seal key change next."""
    interval = token.crypto.interval_s
    return (now // interval + 1) * interval


def _md5_hex(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
