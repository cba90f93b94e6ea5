"""A member of a swarm that only copies one file, again and again, for tests and benchmarks of copies (asyncio shell).

It is a process of its own. The token is in LOCALAI_P2P_TOKEN. For each line on its standard input, the number of
members to copy from, it copies once and prints the seconds.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from localai.mesh.identity import load_identity
from localai.mesh.ids import NetworkId
from localai.mesh.link import MeshSettings, start_mesh
from localai.mesh.logs import configure_logs
from localai.mesh.network_token import parse_network_token
from localai.node.dispatch import Dispatch, RoutingRules
from localai.node.peers.peers import Peers
from localai.node.peers.record import NodeRecord
from localai.node.peers.session_frames import PROTOCOL
from localai.node.sharing.copier import copy_file
from localai.node.testing.lan import Host
from localai.node.testing.node_process import node_environment

LINE_TIMEOUT_S = 60.0
"""An asker that does nothing for so long is ended."""
END_TIMEOUT_S = 20.0


class FileAsker:
    """A running asker, which has found its members."""

    def __init__(self, process: subprocess.Popen[str], copy: Path) -> None:
        self.copied = copy
        """Where the file is after a copy."""
        self._process = process
        self._line("ready")

    def copy(self, members: int) -> float:
        """Copy the file from so many members, from nothing; get the seconds it took. Blocks until then.

        Raises:
            AssertionError: it did not work; the reason is on standard error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{members}\n")
        self._process.stdin.flush()
        return float(self._line("copied"))

    @property
    def pid(self) -> int:
        """Process id of the asker."""
        return self._process.pid

    def _line(self, begin: str) -> str:
        assert self._process.stdout is not None
        timer = threading.Timer(LINE_TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            first, _, rest = self._process.stdout.readline().strip().partition(" ")
        finally:
            timer.cancel()
        assert first == begin, f"the asker ended with {self._process.wait(END_TIMEOUT_S)}"
        return rest


@contextmanager
def running_asker(
    folder: Path, sha256: str, members: int, environment: Mapping[str, str], host: Host | None = None
) -> Iterator[FileAsker]:
    """An asker that has found ``members`` who give the file with this hash; gone after the block.

    ``folder`` gets its identity and the copies, ``environment`` has the network token.
    """
    words = [sys.executable, "-m", "localai.node.testing.file_asker", str(folder), sha256, str(members)]
    process = subprocess.Popen(
        words if host is None else host.command(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=node_environment(environment),
    )
    try:
        yield FileAsker(process, _copy_path(folder))
    finally:
        try:
            process.communicate(timeout=END_TIMEOUT_S)
        finally:
            process.kill()


def _copy_path(folder: Path) -> Path:
    return folder / "copy"


async def _ask(folder: Path, sha256: bytes, members: int) -> None:
    """Join, wait for the members that give the file, and copy on demand until the end of standard input."""
    configure_logs("error")
    token = parse_network_token(os.environ["LOCALAI_P2P_TOKEN"])
    link = await start_mesh(MeshSettings(load_identity(folder / "identity.key"), token, NetworkId(""), (PROTOCOL,)))

    def no_model(config: object) -> None:
        raise AssertionError("an asker has no models")

    dispatch = Dispatch(no_model, rules=RoutingRules(serves=False))  # type: ignore[arg-type]  # never called
    peers = Peers(link, dispatch, lambda: NodeRecord(serves=False), "asker")
    while len(peers.holders(sha256)) < members:
        await peers.wait_changed()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        partial = _copy_path(folder)
        partial.unlink(missing_ok=True)
        began = time.perf_counter()
        await copy_file(sha256, partial, peers.holders(sha256)[: int(line)], link, lambda *_: None)
        print("copied", time.perf_counter() - began, flush=True)
    await peers.aclose()


def main(arguments: Sequence[str]) -> None:
    """The asker: folder, SHA-256 of the file, and how many members must give it before the first copy."""
    folder, sha256, members = arguments
    asyncio.run(_ask(Path(folder), bytes.fromhex(sha256), int(members)))


if __name__ == "__main__":
    main(sys.argv[1:])
