"""Files for an installation, asked of the members of the swarm before their source is (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from localai.mesh.errors import LocalAIError
from localai.node.peers.peers import Peers
from localai.node.sources.fetch import copy_path, disk_error

_LOG = structlog.get_logger()

SETTLE_S = 4.0
"""A node that has just started waits so long for members that have the file, before it goes to the source."""

OnBytes = Callable[[int, int], None]


class MembersFirst:
    """Gets files by hash from members. ``peers`` gives the swarm once this node is in it; None is no swarm at all."""

    def __init__(self, peers: Callable[[], Peers | None] | None, settle_s: float = SETTLE_S) -> None:
        self._peers = peers
        self._settle_s = settle_s
        self._waited = False

    async def get(self, sha256: str, target: Path, on_bytes: OnBytes) -> Path | None:
        """A checked copy beside ``target``, which the caller gives its name; None when no member gives the file.

        Raises:
            SetupError: the disk became full. What members say of a file that has no room is not believed: None.
        """
        if self._peers is None or not sha256:
            return None
        peers = await self._with_holders(digest := bytes.fromhex(sha256))
        if peers is None:
            return None
        partial = copy_path(target)
        try:
            partial.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            await peers.copy_file(digest, partial, on_bytes)
        except LocalAIError as error:
            _LOG.warning("file_not_copied", file=target.name, error=error.message)
            return None
        except OSError as error:
            failure = disk_error(target, error)
            if failure.code == "disk_full":
                raise failure from error
            _LOG.warning("file_not_copied", file=target.name, error=failure.message)
            return None
        _LOG.info("file_copied_from_members", file=target.name)
        return partial

    async def _with_holders(self, digest: bytes) -> Peers | None:
        """The swarm, if somebody in it gives the file; the first call waits for others to be found."""
        assert self._peers is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0.0 if self._waited else self._settle_s)
        while True:
            peers = self._peers()
            if peers is not None and peers.holders(digest):
                return peers
            if loop.time() >= deadline:
                self._waited = True
                return None
            await asyncio.sleep(0.1)
