"""Where a network token comes from: argument, variable, file, standard input, or a new one (shell)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Container, Mapping
from pathlib import Path, PurePath
from typing import BinaryIO

from localai.mesh.errors import SetupError
from localai.mesh.network_token import ALPHABET, BadNetworkToken, NetworkToken, new_network_token, parse_network_token
from localai.mesh.secrets import Secret
from localai.node.option_table import OPTIONS
from localai.node.options import UsageError, Values, variable_of

MAX_FILE_BYTES = 16 << 10
_STDIN = "-"
_TOKEN = next(option for option in OPTIONS if option.key == "p2p_token")
_FILE = next(option for option in OPTIONS if option.key == "p2p_token_file")


def read_network_token(
    values: Values, given: Container[str], environ: Mapping[str, str], argument: str | None = None
) -> NetworkToken | None:
    """The token that the user gave; None without any.

    ``given`` holds the keys of the options given by flag: flags win over variables, and so does the command's own
    ``argument``. Of two variables the token itself wins.

    Raises:
        UsageError: it was given twice.
        SetupError: the file cannot be read.
        BadNetworkToken: it cannot be used; the message never shows a part of it.
    """
    flags = [option.flag for option in (_TOKEN, _FILE) if option.key in given]
    ways = [*flags, *(["an argument"] if argument is not None else [])]
    if len(ways) > 1:
        raise UsageError(f"the network token was given twice, by {' and '.join(ways)}; give it once")
    if argument is not None:
        return parse_network_token(_read_file(PurePath(argument)) if argument == _STDIN else argument)
    token, file = values["p2p_token"], values["p2p_token_file"]
    if isinstance(token, Secret) and _FILE.flag not in ways:
        return _parse(str(token.reveal()), None if ways else variable_of(_TOKEN, environ))
    if isinstance(file, PurePath):
        return parse_network_token(_read_file(file))
    return None


def draw_network_token(values: Values) -> NetworkToken:
    """A token that nobody has had before, with the intervals of the options.

    Raises:
        BadNetworkToken: an interval is out of range.
    """
    dht, crypto = values["p2p_dht_interval"], values["p2p_otp_interval"]
    assert isinstance(dht, int)
    assert isinstance(crypto, int)
    return new_network_token(_random_text, dht_interval_s=dht, crypto_interval_s=crypto)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _parse(text: str, variable: str | None) -> NetworkToken:
    """Read it; an error names the variable, because one such as TOKEN may be meant for another program."""
    try:
        return parse_network_token(text)
    except BadNetworkToken as error:
        if variable is None:
            raise
        raise BadNetworkToken(f"{error.message} (from envar {variable})", detail=error.detail) from error


def _read_file(path: PurePath) -> str:
    name = "Standard input" if path == PurePath(_STDIN) else f"The token file {path}"
    try:
        with _open(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown reason"
        message = f"{name} cannot be read: {reason}. Correct {_FILE.flag}."
        raise SetupError(message, code="p2p_token_file", detail=repr(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise SetupError(f"{name} has more than {MAX_FILE_BYTES} bytes. Give one that holds only the network token.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadNetworkToken(f"{name} does not hold text. Give one that holds only the network token.") from error


def _open(path: PurePath) -> BinaryIO:
    """The file; standard input stays open for others."""
    return open(0, "rb", closefd=False) if path == PurePath(_STDIN) else Path(path).open("rb")
