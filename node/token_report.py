"""What ``localai p2p token`` prints about a network token (pure)."""

from __future__ import annotations

import hashlib
import math

from localai.mesh.network_token import NetworkToken
from localai.mesh.otp import next_rotation, rendezvous_at, window_at
from localai.node.token_qr import one_line

_SHOWN_CHARS = 8
_FINGERPRINT_SALT = b"localai network token fingerprint\0"


def fingerprint(token: NetworkToken) -> str:
    """8 hex characters that are the same for everybody with this token, and say nothing about it otherwise."""
    return hashlib.sha256(_FINGERPRINT_SALT + one_line(token).encode()).hexdigest()[:_SHOWN_CHARS]


def render_inspection(token: NetworkToken, now: float) -> str:
    """What can be told about a token without its secrets, one fact a line. ``now`` is seconds since 1970."""
    left_s = math.ceil(next_rotation(token, now) - now)
    facts = {
        "usable": "yes",
        "fingerprint": f"{fingerprint(token)} (the same on every machine that has this token)",
        "rendezvous": f"{rendezvous_at(token, now)[:_SHOWN_CHARS]}..., new every {token.dht.interval_s} s",
        "topic": f"{window_at(token, now).topic[:_SHOWN_CHARS]}..., new every {token.crypto.interval_s} s",
        "next topic": f"in {left_s} s",
        "max message": f"{token.max_message_bytes} bytes",
    }
    return "".join(f"{name + ':':<14}{fact}\n" for name, fact in facts.items())


def render_new_token_hint(token: NetworkToken, program: str) -> str:
    """What to do with a new token, for a person at a terminal."""
    return (
        f"Fingerprint {fingerprint(token)}. Keep the token secret: whoever has it is a member of the swarm.\n"
        f"On each machine: LOCALAI_P2P_TOKEN=<token> {program} run --p2p\n"
    )
