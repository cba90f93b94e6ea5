"""JSON that is passed on as it came: schemas (pure)."""

from __future__ import annotations

import msgspec

from localai.mesh.errors import InvalidRequest

NOTHING = (b"", b"null")


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a body has the field at all, with something other than null."""
    return bytes(raw) not in NOTHING


def object_text(raw: msgspec.Raw, path: str) -> str:
    """The JSON text of an object that lies at ``path`` of the body.

    Raises:
        InvalidRequest: it is something else, or not UTF-8, which is looked at nowhere else.
    """
    data = bytes(raw)
    if data[:1] != b"{":
        raise InvalidRequest(f"'{path}' must be a JSON object. Send a schema.", code="invalid_type", param=path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"'{path}' is not valid UTF-8. Send JSON as UTF-8."
        raise InvalidRequest(message, code="invalid_json", param=path) from error
