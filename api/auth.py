"""API keys: where a request may carry one, and comparing it (pure).

Source: LocalAI's request reference: Bearer, bare Authorization, ``x-api-key``, ``xi-api-key``, cookie ``token``; the
first one that is not empty counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from localai.mesh.secrets import Secret

MAX_KEY_CHARS = 4096


def presented_key(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
    """The key a request shows, empty when it shows none. ``headers`` must find names in any case."""
    authorization = headers.get("Authorization", "").strip()
    scheme, _, rest = authorization.partition(" ")
    bearer = rest.strip() if scheme.lower() == "bearer" else authorization
    candidates = (bearer, headers.get("x-api-key", ""), headers.get("xi-api-key", ""), cookies.get("token", ""))
    return next((key.strip() for key in candidates if key.strip()), "")[:MAX_KEY_CHARS]


def is_allowed(key: str, allowed: Iterable[Secret[str]]) -> bool:
    """True when ``key`` is one of ``allowed``. Takes the same time for every wrong key."""
    digest = _digest(key)
    found = False
    for secret in allowed:
        found |= hmac.compare_digest(digest, _digest(secret.reveal()))
    return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
