"""The address under which a client reached this node, through proxies or not (pure).

Source: LocalAI's request reference: ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, then RFC 7239's ``Forwarded``,
then what the request itself says; of lists the first, which is the proxy nearest to the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HOST = re.compile(r"[0-9A-Za-z._:\[\]-]{1,255}")


def external_url(headers: Mapping[str, str], scheme: str, host: str) -> str:
    """``scheme://host`` for the client, without a final slash. ``headers`` must find names in any case.

    Whoever sends such headers only changes the links in its own answer.
    """
    forwarded = _forwarded(headers.get("Forwarded", ""))
    is_tls = "https" in (scheme, _first(headers.get("X-Forwarded-Proto", "")).lower(), forwarded.get("proto", ""))
    named = (_first(headers.get("X-Forwarded-Host", "")), forwarded.get("host", ""))
    shown = next((name for name in named if _HOST.fullmatch(name)), host)
    return f"{'https' if is_tls else scheme}://{shown}"


def _first(value: str) -> str:
    return value.partition(",")[0].strip()


def _forwarded(value: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in _first(value).split(";"))
    return {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs}
