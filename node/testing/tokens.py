"""Network tokens for tests and benchmarks."""

from __future__ import annotations

import secrets

from localai.mesh.network_token import ALPHABET, new_network_token


def new_token_text() -> str:
    """The text of a token that nobody else has."""
    return new_network_token(lambda count: "".join(secrets.choice(ALPHABET) for _ in range(count))).text.reveal()
