"""A network token as text and code to hand on: to a terminal, or as a picture (pure)."""

from __future__ import annotations

import io
import shlex
from typing import Literal, TypeAlias

import segno

from localai.mesh.errors import InvalidRequest
from localai.mesh.ids import NetworkId
from localai.mesh.network_token import NetworkToken

Picture: TypeAlias = Literal["svg", "png"]

_QUIET = 4
"""Blank modules around a code that readers may rely on; most are content with one."""
_LEAST_QUIET = 1
_PIXELS_PER_MODULE = 6


class NoCode(InvalidRequest):
    """The token cannot be shown as a QR code; the message says why and what to do instead."""

    default_code = "no_qr_code"


def invitation(token: NetworkToken, network_id: NetworkId, program: str = "localai", *, columns: int = 0) -> str:
    """What the user of a new swarm must see: the token, the command for the next machine, and a QR code.

    ``columns`` is the width of the terminal; 0 means that there is none, and then there is no code.
    """
    text = one_line(token)
    network = f" --p2p-network-id {shlex.quote(network_id)}" if network_id else ""
    lines = [
        "This node has started a new swarm. Its network token:",
        "",
        text,
        "",
        "Let another machine join with:",
        "",
        f"  LOCALAI_P2P_TOKEN={shlex.quote(text)} {program} run --p2p{network}",
        "",
        "Whoever has the token is a member: give it only to people you trust.",
    ]
    if columns:
        lines += ["", _code_or_note(token, columns)]
    return "\n".join(lines) + "\n"


def one_line(token: NetworkToken) -> str:
    """The text of the token without the line ends that were pasted with it: they do not count."""
    return "".join(token.text.reveal().split())


def render_code(token: NetworkToken, columns: int | None = None) -> str:
    """The code in half blocks, two modules a character.

    Its rim is as wide as the columns allow, up to what the standard asks for. It is light on dark, as terminals are;
    on a light one the colours are swapped, which cameras of phones read too.

    Raises:
        NoCode: it needs more columns than these, or the token is too long.
    """
    code = _code(token)
    width = len(code.matrix)
    quiet = _QUIET if columns is None else min(_QUIET, (columns - width) // 2)
    if quiet < _LEAST_QUIET:
        raise NoCode(
            f"The QR code needs {width + 2 * _LEAST_QUIET} columns and this terminal has {columns}. Make it wider, or "
            "write the code into a file with p2p token qr --output."
        )
    out = io.StringIO()
    code.terminal(out, border=quiet, compact=True)
    return out.getvalue()


def render_picture(token: NetworkToken, kind: Picture) -> bytes:
    """The code as the bytes of a picture.

    Raises:
        NoCode: the token is too long.
    """
    out = io.BytesIO()
    _code(token).save(out, kind=kind, scale=_PIXELS_PER_MODULE, border=_QUIET, light="white")
    return out.getvalue()


def _code(token: NetworkToken) -> segno.QRCode:
    text = one_line(token)
    try:
        return segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError as error:
        raise NoCode(f"No QR code holds the {len(text)} characters of this token. Copy it as text.") from error


def _code_or_note(token: NetworkToken, columns: int) -> str:
    try:
        return render_code(token, columns).rstrip("\n")
    except NoCode as error:
        return f"({error.message})"
