"""Text of one command-line or environment value -> typed value (pure).

Each parser raises ``ValueError`` with a reason that completes the sentence "<name> <reason>",
for example ``needs a whole number, not "x"``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from localai.mesh.errors import LocalAIError

_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})
_INT = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+)", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LIST_PART = re.compile(r"(?:\\,|[^,])*")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host means every interface; port 0 means any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Places:
    """What relative paths and ``~`` stand for. Passed in, so that parsing touches nothing."""

    cwd: PurePath
    home: PurePath


def parse_bool(text: str) -> bool:
    """True for true, 1, yes; False for false, 0, no; in any case."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f'needs true, 1, yes, false, 0 or no, not "{text}"')


def parse_int(text: str) -> int:
    """Whole number, decimal or with 0x, 0o, 0b."""
    if not _INT.fullmatch(text):
        raise ValueError(f'needs a whole number, not "{text}"')
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    if len(digits) > 66:
        raise ValueError("needs a whole number of at most 64 digits")
    prefixed = digits[:2].lower() in {"0x", "0o", "0b"}
    return int(sign + digits, 0 if prefixed else 10)


def parse_float(text: str) -> float:
    """Finite decimal number."""
    if not _FLOAT.fullmatch(text) or (value := float(text)) in {float("inf"), float("-inf")}:
        raise ValueError(f'needs a number, not "{text}"')
    return value


def parse_duration(text: str) -> float:
    """Seconds in a Go duration such as 90s, 1m30s, 500ms; a bare 0 is allowed."""
    if text == "0":
        return 0.0
    seconds, position = 0.0, 0
    while part := _DURATION_PART.match(text, position):
        seconds += float(part[1]) * _UNIT_S[part[2]]
        position = part.end()
    if not text or position != len(text):
        raise ValueError(f'needs a time with its unit such as 90s, 1m30s or 500ms, not "{text}"')
    return seconds


def parse_list(text: str) -> tuple[str, ...]:
    """Items between commas; ``\\,`` is a comma inside an item. Blank items are left out."""
    items = (part[0].replace("\\,", ",").strip() for part in _LIST_PART.finditer(text))
    return tuple(item for item in items if item)


def parse_path(text: str, places: Places) -> PurePath | None:
    """Absolute path with ``~`` expanded; None for empty text, which switches the feature off."""
    if not text:
        return None
    if text == "~" or text.startswith("~/"):
        return places.home / text[2:]
    return places.cwd / text


def parse_file(text: str, places: Places) -> PurePath | None:
    """Like :func:`parse_path`, but ``-`` stays what it is: standard input."""
    return PurePath(text) if text == "-" else parse_path(text, places)


def check_listen_address(text: str) -> None:
    """Accept an address on which the mesh can listen."""
    _check_multiaddr(text, needs_peer=False)


def check_peer_address(text: str) -> None:
    """Accept an address at which the mesh can reach one certain node."""
    _check_multiaddr(text, needs_peer=True)


def check_grpc_backend(text: str) -> None:
    """Refuse ``NAME:TARGET``, a backend in a program of its own: such models would be answered by something else."""
    name, colon, target = text.partition(":")
    if not colon or not name.strip() or not target.strip():
        raise ValueError(f'needs NAME:TARGET, such as my-backend:127.0.0.1:9000, not "{text}"')
    raise ValueError(f'cannot be used yet, and "{name}" would not answer: leave it out')


def check_header_value(text: str) -> None:
    """Accept what can stand in an HTTP header."""
    if len(text) > 200 or not all(" " <= char <= "~" for char in text):
        raise ValueError("needs at most 200 plain characters (ASCII, no line breaks)")


def check_network_id(text: str) -> None:
    """Accept the name of a sub-network."""
    from localai.mesh.ids import parse_network_id  # slow to import, and rarely needed

    try:
        parse_network_id(text)
    except LocalAIError as error:
        raise ValueError(f'cannot be "{text}": {error.message[0].lower()}{error.message[1:].rstrip(".")}') from None


def _check_multiaddr(text: str, *, needs_peer: bool) -> None:
    from localai.mesh.addresses import multiaddr_problem  # slow to import, and rarely needed

    if problem := multiaddr_problem(text, needs_peer=needs_peer):
        raise ValueError(f'cannot use "{text}": {problem}')


def parse_choice(text: str, choices: tuple[str, ...]) -> str:
    """The text, if it is one of the choices."""
    if text not in choices:
        raise ValueError(f'must be one of {", ".join(choices)}, not "{text}"')
    return text


def parse_address(text: str) -> Address:
    """Host and port of ``host:port``, ``[v6]:port`` or ``:port``."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'needs brackets around an IPv6 address, such as [::1]:8080, not "{text}"')
    if not colon or not port.isascii() or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f'needs host:port such as 127.0.0.1:8080, or :8080 for all interfaces, not "{text}"')
    if set(host) & set(" /[]@"):
        raise ValueError(f'needs a host name or IP address before the port, not "{text}"')
    return Address(host, int(port))
