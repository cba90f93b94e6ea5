"""Listening sockets, taken before anything slow is done (shell)."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from localai.mesh.errors import SetupError
from localai.node.option_values import Address

BACKLOG = 128


def listen(address: Address) -> list[socket.socket]:
    """Listening sockets on every address of the host; port 0 gives all of them the same free port.

    Raises:
        SetupError: the port is taken, or the address is not one of this machine.
    """
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, place in _places(address):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((place[0], port, *place[2:]))
            listener.listen(BACKLOG)
            port = listener.getsockname()[1]
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _listen_error(address, error) from error
    return sockets


def _places(address: Address) -> list[tuple[int, int, int, tuple[Any, ...]]]:
    """What the host stands for: (family, kind, protocol, socket address), each once, IPv4 before IPv6."""
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=flags)
    places = {(family, kind, protocol, place) for family, kind, protocol, _, place in found}
    return sorted(places, key=lambda found: (found[0] != socket.AF_INET, found[3]))


def _listen_error(address: Address, error: OSError) -> SetupError:
    other = f"{address.host}:{address.port + 1 if address.port < 65535 else 8080}"
    if error.errno == errno.EADDRINUSE:
        message = f"Port {address.port} is in use. Stop the program that has it, or choose another: --address {other}."
    elif error.errno == errno.EACCES:
        message = f"Port {address.port} needs root. Choose one above 1023: --address {address.host}:8080."
    else:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "it is not a known name"
        message = f"Cannot listen on {address}: {reason}. Give an address of this machine with --address."
    return SetupError(message, code="address", detail=repr(error))
