"""Several machines on one LAN, made of network namespaces, for tests of nodes that find each other.

A namespace with a bridge, and one namespace per host, joined to it by a veth pair. Each is held by a ``cat`` whose
input is a pipe from this process: when this process ends, however it ends, they end, and the kernel removes all the
rest. Nothing in the namespace of this process is touched, so several LANs can exist at once, and where the kernel
allows user namespaces no privileges are needed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from localai.mesh.errors import SetupError

MAX_HOSTS = 200
LINK_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 10.0
_TOOLS = ("ip", "unshare", "nsenter", "cat")
_READ_BYTES = 65_536


class Host:
    """One machine on the LAN. Its only link is ``eth0``."""

    def __init__(self, number: int, switch: _Namespace, namespace: _Namespace, things: ExitStack) -> None:
        self.address = f"10.98.0.{number}"
        self._port = f"port{number}"
        self._switch = switch
        self._namespace = namespace
        self._things = things

    @property
    def pid(self) -> int:
        """A process that lives in this host's namespace until the LAN is taken down."""
        return self._namespace.pid

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The same command, to be run on this host. It becomes that process itself: its pid and signals are real."""
        return [*self._namespace.enter, *arguments]

    def forward(self, port: int, address: str | None = None) -> str:
        """Where this process reaches a TCP port of the host, cut or not: ``127.0.0.1:<port>``, as long as the LAN is.

        ``address`` is the one that the port is open on, if not on the host's own.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.set_inheritable(True)
            script = [sys.executable, "-m", "localai.node.testing.lan"]
            arguments = [str(listener.fileno()), address or self.address, str(port)]
            process = subprocess.Popen(
                self.command([*script, *arguments]), stdin=subprocess.PIPE, pass_fds=[listener.fileno()]
            )
            self._things.callback(_end, process)
            return f"127.0.0.1:{listener.getsockname()[1]}"

    def cut(self) -> None:
        """Pull the cable: what is on its way is lost, connections are not told."""
        self._switch.ip(f"link set {self._port} down")
        self._namespace.wait_link(up=False)

    def join(self) -> None:
        """Put the cable back."""
        self._switch.ip(f"link set {self._port} up")
        self._namespace.wait_link(up=True)


@contextmanager
def lan(count: int) -> Iterator[tuple[Host, ...]]:
    """A LAN of that many hosts, ``10.98.0.1`` and so on (``fd98::1`` where there is IPv6); gone after the block.

    Processes that were started on a host must be ended by whoever started them.

    Raises:
        SetupError: a tool is missing, or namespaces are not allowed here.
    """
    assert 1 <= count <= MAX_HOSTS
    missing = [tool for tool in _TOOLS if not shutil.which(tool, path=_environment()["PATH"])]
    if missing:
        raise SetupError(f"Tests of a LAN need {' and '.join(missing)}. Run: apt-get install iproute2 util-linux")
    with ExitStack() as things:
        switch = _Namespace(things)
        switch.ip("link add lan type bridge mcast_snooping 0", "link set lan up")
        hosts = []
        for number in range(1, count + 1):
            namespace = _Namespace(things, inside=switch)
            host = Host(number, switch, namespace, things)
            switch.ip(
                f"link add port{number} type veth peer name eth0 netns {namespace.pid}",
                f"link set port{number} master lan up",
            )
            with suppress(SetupError):  # where IPv6 is off, the LAN is without it
                namespace.ip(
                    "link set eth0 addrgenmode none",  # the address that it makes is not usable for a second or two
                    f"addr add fe80::{number:x}/64 dev eth0 nodad",
                    f"addr add fd98::{number:x}/64 dev eth0 nodad",
                )
            namespace.ip(
                "link set lo up",
                f"addr add {host.address}/24 dev eth0",
                "link set eth0 up",
                "route add 224.0.0.0/4 dev eth0",
            )
            hosts.append(host)
        for host in hosts:
            host.join()
        yield tuple(hosts)


class _Namespace:
    """A network namespace and the process that holds it; for an unprivileged user inside a user namespace."""

    def __init__(self, things: ExitStack, inside: _Namespace | None = None) -> None:
        root = os.geteuid() == 0
        user = [] if root or inside else ["--user", "--map-root-user"]
        process = subprocess.Popen(
            [*(inside.enter if inside else ()), "unshare", *user, "--net", "--", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
        things.callback(_end, process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):
            process.stdin.write(b"?")
            process.stdin.flush()
        if process.stdout.read(1) != b"?":  # it echoes once it lives in its namespace
            reason = process.stderr.read().decode(errors="replace").strip()
            raise SetupError(
                f"Network namespaces are not allowed here ({reason}). "
                "Run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN, or allow user namespaces."
            )
        self.pid = process.pid
        spaces = ["--net"] if root else ["--user", "--net", "--preserve-credentials"]
        self.enter: list[str] = ["nsenter", f"--target={self.pid}", *spaces, "--"]
        """Starts a command that is to run inside."""

    def ip(self, *commands: str) -> None:
        """Run commands of ``ip`` inside.

        Raises:
            SetupError: one of them failed.
        """
        result = subprocess.run(
            [*self.enter, "ip", "-batch", "-"],
            input="\n".join(commands),
            capture_output=True,
            text=True,
            env=_environment(),
        )
        if result.returncode:
            raise SetupError(
                f"A test LAN cannot be set up ({result.stderr.strip()}). Run as root with CAP_NET_ADMIN, and with a "
                "kernel that has bridges and veth pairs."
            )

    def wait_link(self, *, up: bool) -> None:
        """Wait until the kernel says so of ``eth0``, which it does up to a second late."""
        command = [*self.enter, "ip", "-oneline", "link", "show", "eth0"]
        deadline = time.monotonic() + LINK_TIMEOUT_S
        while True:
            line = subprocess.run(command, capture_output=True, text=True, env=_environment()).stdout
            if ("state UP" in line) == up:
                return
            assert time.monotonic() < deadline, f"the link did not change: {line}"
            time.sleep(0.01)


def _environment() -> dict[str, str]:
    """With the places where ``ip`` is, which are not everybody's."""
    return {**os.environ, "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))}


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _forward(listener: socket.socket, address: str, port: int) -> None:
    """Runs on a host: takes connections from a socket of the test's namespace until the end of standard input."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(address, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    await asyncio.start_server(serve, sock=listener)
    await asyncio.to_thread(sys.stdin.buffer.read)
    os._exit(0)  # connections that are still open end with it


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def main(arguments: Sequence[str]) -> None:
    """The forwarder: descriptor of a listening socket, address and port to connect to."""
    descriptor, address, port = arguments
    asyncio.run(_forward(socket.socket(fileno=int(descriptor)), address, int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
