from __future__ import annotations

import socket

import pytest

from localai.mesh.errors import SetupError
from localai.node.listening import listen
from localai.node.option_values import Address


def close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def test_a_free_port_is_found_and_answers() -> None:
    (listener,) = sockets = listen(Address("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname(), timeout=5):
        close(sockets)


def test_all_addresses_of_a_name_share_the_port() -> None:
    for host in ("", "localhost"):
        sockets = listen(Address(host, 0))
        assert len({listener.getsockname()[1] for listener in sockets}) == 1
        close(sockets)


def test_a_taken_port_is_named_with_a_way_out() -> None:
    sockets = listen(Address("127.0.0.1", 0))
    port = sockets[0].getsockname()[1]
    with pytest.raises(SetupError, match=f"Port {port} is in use.*--address 127.0.0.1:"):
        listen(Address("127.0.0.1", port))
    close(sockets)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(SetupError, match=r"Cannot listen on .*--address"):
        listen(Address(host, 0))
