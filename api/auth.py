"""API keys: where a request may carry one, comparing it, and which paths need none (pure).

Source: LocalAI's request reference: Bearer, bare Authorization, ``x-api-key``, ``xi-api-key``, cookie ``token``; the
first one that is not empty counts.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

from localai.mesh.secrets import Secret

MAX_KEY_CHARS = 4096
KEY_HEADERS = ("Authorization", "x-api-key", "xi-api-key")
"""A page of another site cannot send these without the permission that CORS gives."""


def presented_key(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
    """The key a request shows, empty when it shows none. ``headers`` must find names in any case."""
    authorization = headers.get("Authorization", "").strip()
    scheme, _, rest = authorization.partition(" ")
    bearer = rest.strip() if scheme.lower() == "bearer" else authorization
    candidates = (bearer, headers.get("x-api-key", ""), headers.get("xi-api-key", ""), cookies.get("token", ""))
    return next((key.strip() for key in candidates if key.strip()), "")[:MAX_KEY_CHARS]


class KeyRing:
    """The keys that open this node; false when there are none and everybody may come in."""

    def __init__(self, keys: Iterable[Secret[str]]) -> None:
        self._digests = tuple(_digest(key.reveal()) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def has(self, key: str) -> bool:
        """True when ``key`` is one of them. Looks at all of them, and takes the same time for every wrong key."""
        digest = _digest(key)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


class ExemptRoutes:
    """Routes that may be read without a key; ``invalid`` are the patterns that are no regular expressions."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[re.Pattern[str]] = []
        self._known: dict[str, bool] = {}
        self.invalid: list[str] = []
        for text in patterns:
            try:
                self._patterns.append(re.compile(text))
            except re.error:
                self.invalid.append(text)

    def covers(self, route: str) -> bool:
        """Whether a route's pattern, such as ``/v1/models/{model}``, matches one of them anywhere."""
        if route not in self._known:  # there are as many as routes
            self._known[route] = any(pattern.search(route) for pattern in self._patterns)
        return self._known[route]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
