from __future__ import annotations

import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from localai.mesh.local_addresses import MAX_ADDRESSES, dialable_addresses, multicast_interfaces
from localai.node.testing.lan import Host, lan

EVERYWHERE = ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4002"]


class Machine:
    """Interfaces as psutil would list them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, object] = {}
        self.addresses: dict[str, list[object]] = {}
        monkeypatch.setattr(psutil, "net_if_stats", lambda: self.states)
        monkeypatch.setattr(psutil, "net_if_addrs", lambda: self.addresses)
        monkeypatch.setattr(socket, "if_nametoindex", lambda name: list(self.states).index(name) + 1)
        self.add("lo", "127.0.0.1", "::1", flags="up,loopback,running")

    def add(self, name: str, *addresses: str, up: bool = True, flags: str = "up,broadcast,running,multicast") -> None:
        self.states[name] = SimpleNamespace(isup=up, flags=flags)
        self.addresses[name] = [SimpleNamespace(family=psutil.AF_LINK, address="02:00:00:00:00:01")]
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.addresses[name].append(SimpleNamespace(family=family, address=address))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_all_interfaces_become_one_address_each(machine: Machine) -> None:
    machine.add("eth0", "192.168.1.7", "fd00::7", "fe80::7%eth0")
    machine.add("wlan0", "203.0.113.9")
    assert dialable_addresses(EVERYWHERE) == (
        "/ip4/192.168.1.7/tcp/4001",
        "/ip4/203.0.113.9/tcp/4001",
        "/ip6/fd00::7/tcp/4002",
    )


def test_interfaces_that_are_down_or_vanished_do_not_count(machine: Machine) -> None:
    machine.add("docker0", "172.17.0.1", up=False)
    machine.add("usb0", "10.0.0.1")
    del machine.states["usb0"]
    assert dialable_addresses(EVERYWHERE) == ("/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4002")


def test_other_addresses_stay_as_they_are(machine: Machine) -> None:
    machine.add("eth0", "192.168.1.7")
    given = ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/2", "/dns4/me.example/tcp/3", "/ip6/::1/tcp/4")
    assert dialable_addresses([*given, given[0]]) == given
    assert dialable_addresses(["/ip4/10.0.0.1/tcp/2", "/ip6/::/tcp/2"]) == ("/ip4/10.0.0.1/tcp/2",)
    assert dialable_addresses([]) == ()


def test_there_is_an_end_to_addresses(machine: Machine) -> None:
    machine.add("eth0", *(f"10.0.0.{number}" for number in range(1, 40)))
    found = dialable_addresses(EVERYWHERE)
    assert found[0] == "/ip4/10.0.0.1/tcp/4001"
    assert len(found) == MAX_ADDRESSES


def test_multicast_goes_where_it_can(machine: Machine) -> None:
    machine.add("eth0", "192.168.1.7", "fd00::7", "fe80::7%eth0")
    machine.add("tun0", "10.8.0.1", flags="up,pointopoint,running,noarp")
    machine.add("down0", "10.9.0.1", up=False)
    machine.add("Ethernet", "10.7.0.1", flags="")
    assert multicast_interfaces() == ("192.168.1.7", 2, "10.7.0.1")


def test_without_a_network_there_is_no_multicast(machine: Machine) -> None:
    assert multicast_interfaces() == ()


def ask(host: Host, expression: str) -> object:
    script = f"import json; from localai.mesh.local_addresses import *; print(json.dumps({expression}))"
    command = host.command([sys.executable, "-c", script])
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.e2e
def test_on_a_real_network_a_pulled_cable_counts() -> None:
    with lan(1) as (host,):
        assert "/ip4/10.98.0.1/tcp/4001" in ask(host, f"dialable_addresses({EVERYWHERE})")  # type: ignore[operator]
        assert "10.98.0.1" in ask(host, "multicast_interfaces()")  # type: ignore[operator]
        host.cut()
        assert ask(host, f"dialable_addresses({EVERYWHERE})") == ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4002"]
        assert ask(host, "multicast_interfaces()") == []
