"""JSON bodies: bytes to a typed value, with an error that names the place (pure)."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from localai.mesh.errors import InvalidRequest

T = TypeVar("T")
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`")


def decode_body(data: bytes, kind: type[T]) -> T:
    """The body as a ``kind``; no body at all counts as an empty object.

    Raises:
        InvalidRequest: it is not JSON, nested too deeply, or has a field of a wrong type (``param`` names it).
    """
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid_type(str(error)) from error
    except msgspec.DecodeError as error:
        message = f"The body is not valid JSON: {error}."
        raise InvalidRequest(message[:300], code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("The body is not valid UTF-8. Send JSON as UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply. Flatten it.", code="invalid_json") from error


def _invalid_type(text: str) -> InvalidRequest:
    problem, _, place = text.partition(" - at `$")
    path = place.removeprefix(".").removesuffix("`")
    if missing := _MISSING.fullmatch(problem):
        path = f"{path}.{missing['field']}".removeprefix(".")
        return InvalidRequest(f"'{path}' is missing. Add it.", code="missing_field", param=path)
    where = f"'{path}'" if path else "The body"
    message = f"{where} has the wrong type: {problem[:1].lower()}{problem[1:]}."
    return InvalidRequest(message, code="invalid_type", param=path or None)
