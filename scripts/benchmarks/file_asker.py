"""Beside ``files.py``: a member that copies one file again and again. Arguments: folder, SHA-256, peers, or only one.

The token is in LOCALAI_P2P_TOKEN. For each line on standard input (the number of members to copy from) it copies once
and prints the seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
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


async def main(folder: Path, sha256: bytes, members: int) -> None:
    """Join, wait for the members that give the file, and copy on demand."""
    configure_logs("error")
    token = parse_network_token(os.environ["LOCALAI_P2P_TOKEN"])
    link = await start_mesh(MeshSettings(load_identity(folder / "identity.key"), token, NetworkId(""), (PROTOCOL,)))

    def no_model(config: object) -> None:
        raise AssertionError("an asker has no models")

    dispatch = Dispatch(no_model, rules=RoutingRules(serves=False))  # type: ignore[arg-type]  # never called
    peers = Peers(link, dispatch, lambda: NodeRecord(serves=False), "bench")
    while len(peers.holders(sha256)) < members:
        await peers.wait_changed()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        partial = folder / "copy"
        partial.unlink(missing_ok=True)
        began = time.perf_counter()
        await copy_file(sha256, partial, peers.holders(sha256)[: int(line)], link, lambda *_: None)
        print(time.perf_counter() - began, flush=True)
    await peers.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])))
