from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from localai.mesh.errors import SetupError
from localai.node.testing.lan import Host, lan

GREET = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"x" * 1_000_000)
    def log_message(self, *arguments): pass
server = http.server.HTTPServer((sys.argv[1], 8080), Handler)
print("ready", flush=True)
server.serve_forever()
"""
CALL = """
import sys, urllib.request
print(len(urllib.request.urlopen(f"http://{sys.argv[1]}:8080/", timeout=float(sys.argv[2])).read()))
"""


def connection(place: str) -> socket.socket:
    name, port = place.split(":")
    return socket.create_connection((name, int(port)))


@contextmanager
def greeter(host: Host, address: str) -> Iterator[None]:
    command = host.command([sys.executable, "-c", GREET, address])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def call(host: Host, address: str, timeout_s: float = 30.0) -> str:
    """What a host got from another one; the last line of its error if it got nothing."""
    command = host.command([sys.executable, "-c", CALL, address, str(timeout_s)])
    result = subprocess.run(command, capture_output=True, text=True)
    return (result.stdout or result.stderr).strip().splitlines()[-1]


@pytest.mark.e2e
def test_hosts_reach_each_other_until_the_link_is_cut() -> None:
    with lan(3) as (first, second, third), greeter(first, "0.0.0.0"):
        assert [host.address for host in (first, second, third)] == ["10.98.0.1", "10.98.0.2", "10.98.0.3"]
        assert call(second, first.address) == "1000000"
        first.cut()
        assert "timed out" in call(second, first.address, 0.5)
        first.join()
        second.cut()
        assert call(third, first.address) == "1000000"
        assert "1000000" not in call(second, first.address, 0.5)


@pytest.mark.e2e
def test_this_process_reaches_a_host_also_when_it_is_cut() -> None:
    with lan(1) as (host,), greeter(host, "127.0.0.1"):
        place = host.forward(8080, "127.0.0.1")
        for _ in range(2):
            with urllib.request.urlopen(f"http://{place}/") as response:
                assert len(response.read()) == 1_000_000
            host.cut()
        with connection(host.forward(8080)) as closed:  # nothing listens on the host's own address
            assert closed.recv(1) == b""
        unfinished = connection(place)
        unfinished.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert unfinished.recv(1) == b"H"
    unfinished.close()
    with pytest.raises(ConnectionRefusedError):
        connection(place)


@pytest.mark.e2e
def test_multicast_reaches_the_other_hosts() -> None:
    receive = """
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("", 5353))
membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0")
receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
print("ready", flush=True)
receiver.settimeout(30)
print(receiver.recvfrom(100), flush=True)
"""
    send = 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("224.0.0.251", 5353))'
    with (
        lan(2) as (first, second),
        subprocess.Popen(
            second.command([sys.executable, "-c", receive]), stdout=subprocess.PIPE, text=True
        ) as receiver,
    ):
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        subprocess.run(first.command([sys.executable, "-c", send]), check=True)
        line = receiver.stdout.readline()
    assert "hello" in line
    assert first.address in line


@pytest.mark.e2e
def test_a_command_is_the_process_itself() -> None:
    with lan(1) as (host,):
        script = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
        with subprocess.Popen(
            host.command([sys.executable, "-c", script]), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.e2e
def test_nothing_is_left_after_a_failure() -> None:
    before = set(psutil.net_if_addrs())
    pids: list[int] = []

    def fail() -> None:
        with lan(2) as hosts:
            hosts[0].forward(8080)
            pids.extend(child.pid for child in psutil.Process().children())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(pids) == 4
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert set(psutil.net_if_addrs()) == before


@pytest.mark.e2e
def test_nothing_is_left_of_a_process_that_was_killed() -> None:
    script = """
import psutil, signal
from localai.node.testing.lan import lan
with lan(2) as hosts:
    hosts[1].forward(8080)
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(children) == 4
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def tool(folder: Path, name: str, complaint: str) -> None:
    """A command that only complains."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
    path.chmod(0o755)


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"unshare and nsenter.*apt-get install iproute2"), lan(1):
        pytest.fail("it started")


def test_a_kernel_that_does_not_allow_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ip", "nsenter", "cat"):
        tool(tmp_path, name, "unused")
    tool(tmp_path, "unshare", "unshare failed: Operation not permitted")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SetupError, match=r"Operation not permitted.*CAP_NET_ADMIN"), lan(1):
        pytest.fail("it started")
    assert psutil.Process().children() == []


@pytest.mark.e2e
def test_a_kernel_without_bridges_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "ip", "RTNETLINK answers: Operation not supported")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SetupError, match=r"Operation not supported.*bridges"), lan(1):
        pytest.fail("it started")
    assert psutil.Process().children() == []
