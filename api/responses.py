"""JSON responses (shell)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A value that msgspec can encode, as a whole response ending in a newline."""
    data = msgspec.json.encode(body) + b"\n"
    return web.Response(body=data, status=status, content_type="application/json", headers=headers)
