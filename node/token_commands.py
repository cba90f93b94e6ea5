"""The commands ``localai p2p token ...`` (shell)."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path, PurePath

from localai.mesh.errors import SetupError
from localai.mesh.network_token import NetworkToken
from localai.node.network_token_input import draw_network_token
from localai.node.options import UsageError, Values
from localai.node.token_qr import Picture, render_code, render_picture
from localai.node.token_report import render_inspection, render_new_token_hint

_PICTURES: dict[str, Picture] = {".svg": "svg", ".png": "png"}


def print_new_token(values: Values, program: str) -> int:
    """Print a new token and nothing else; a person at a terminal also gets a hint, on the other stream.

    Raises:
        BadNetworkToken: an interval is out of range.
    """
    token = draw_network_token(values)
    print(token.text.reveal())
    if sys.stderr.isatty():
        sys.stderr.write(render_new_token_hint(token, program))
    return 0


def print_inspection(token: NetworkToken) -> int:
    """Print what can be told about a token."""
    sys.stdout.write(render_inspection(token, time.time()))
    return 0


def show_code(token: NetworkToken, output: PurePath | None) -> int:
    """Show the code of a token, or write it into a file that only its owner can read.

    Raises:
        NoCode: the token is too long for a code, or the terminal too narrow.
        UsageError: the file's name does not say which kind of picture it is.
        SetupError: the file cannot be written.
    """
    if output is None:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(render_code(token, columns))
        return 0
    kind = _PICTURES.get(output.suffix.lower())
    if kind is None:
        raise UsageError(f'--output must end in .svg or .png, not "{output.name}"')
    _write_private(Path(output), render_picture(token, kind))
    return 0


def _write_private(path: Path, data: bytes) -> None:
    try:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)  # it may have been there before
            file.write(data)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown reason"
        message = f"The file {path} cannot be written: {reason}. Give another one with --output."
        raise SetupError(message, code="output", detail=repr(error)) from error
