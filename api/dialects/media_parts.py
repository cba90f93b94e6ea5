"""Bytes of pictures, sounds and films that a request holds, or names and somebody has fetched (pure)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TypeAlias

from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.fetch_rules import parse_data_url

MAX_MEDIA_BYTES = 20_000_000
Fetched: TypeAlias = Mapping[str, bytes]
"""URL -> what was there."""


def media_at(url: str, path: str, fetched: Fetched) -> bytes:
    """The bytes inside a ``data:`` URL, or what was fetched from another one. ``path`` is the field's, for errors.

    Raises:
        InvalidRequest: the URL cannot be read.
        TooLarge: it holds more than :data:`MAX_MEDIA_BYTES`.
        Unsupported: nobody has fetched it.
    """
    try:
        inline = parse_data_url(url, MAX_MEDIA_BYTES)
    except LocalAIError as error:
        error.param = path
        raise
    if inline is not None:
        return inline.data
    if url not in fetched:
        message = f"'{path}' names an address, and nothing is fetched for this request. Send a data: URL or base64."
        raise Unsupported(message, code="unsupported_content", param=path)
    return fetched[url]


def media_from_base64(text: str, path: str) -> bytes:
    """The bytes of a base64 text. ``path`` is the field's, for errors.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"'{path}' is not base64. Encode it again.", param=path) from None
