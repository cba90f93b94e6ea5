"""Which entries of an archive from outside are taken, and under which name (pure).

An entry that no honest archive of model files has (an absolute path, one with ``..``, a link that leads out, a device)
refuses the whole archive. Hidden files, which the deletion marks of image layers are too, and definitions of models are
left out: an image brings files, and does not say what runs here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from localai.mesh.errors import Forbidden

MAX_PATH_PARTS = 16
MAX_PART_BYTES = 200
MAX_LINK_STEPS = 8
_DEFINITIONS = (".yaml", ".yml")

EntryKind: TypeAlias = Literal["file", "folder", "link", "hard link", "other"]


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What all layers of an image together may unpack to."""

    entries: int = 10_000
    """Files, folders and links."""
    ratio: int = 20
    """Unpacked bytes for each packed one; weights hardly shrink when they are packed."""
    slack_bytes: int = 1 << 30
    """Allowed beside that, for small archives of text."""

    def unpacked_bytes(self, packed_bytes: int) -> int:
        """The most bytes that may come out of so many."""
        return packed_bytes * self.ratio + self.slack_bytes


DEFAULT_UNPACK_LIMITS = UnpackLimits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as the archive describes it."""

    name: str
    kind: EntryKind
    link: str = ""
    """What a link leads to: from the folder of the link, or for a hard link from the top of the archive."""


def taken_path(entry: Entry) -> str | None:
    """The path of a file or link to take, from the top of the archive; None for what is left out.

    Raises:
        Forbidden: the archive must not be unpacked.
    """
    parts = _parts(entry.name)
    if parts is None:
        raise _refused(entry, "has an impossible path")
    if entry.kind == "other":
        raise _refused(entry, "is a device or another special file")
    if not parts or entry.kind == "folder" or any(part.startswith(".") for part in parts):
        return None
    if len(parts) == 1 and parts[0].lower().endswith(_DEFINITIONS):
        return None
    return "/".join(parts)


def link_target(entry: Entry, path: str) -> str:
    """The path that the link at ``path`` leads to, from the top of the archive.

    Raises:
        Forbidden: it leads out of the archive.
    """
    at = [] if entry.kind == "hard link" else path.split("/")[:-1]
    if entry.link.startswith("/") or "\\" in entry.link or not entry.link.isprintable():
        raise _refused(entry, "is a link that leads out of the archive")
    for part in entry.link.split("/"):
        if part == "..":
            if not at:
                raise _refused(entry, "is a link that leads out of the archive")
            at.pop()
        elif part not in ("", "."):
            at.append(part)
    return "/".join(at)


def followed_links(links: Mapping[str, str], files: Collection[str]) -> dict[str, str]:
    """For each link the file at its end. Links that end nowhere, in a circle, at a folder or at themselves are left
    out."""
    found: dict[str, str] = {}
    for path, target in links.items():
        for _step in range(MAX_LINK_STEPS):
            if target in files:
                if target != path:  # a file of this name came before the link to it
                    found[path] = target
                break
            target = links.get(target, "")
    return found


def _parts(name: str) -> list[str] | None:
    """The parts of a path without ``.`` at its beginning; None for an impossible one."""
    if not name.isprintable() or "\\" in name or name.startswith("/"):
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    too_long = len(parts) > MAX_PATH_PARTS or any(len(part.encode()) > MAX_PART_BYTES for part in parts)
    return None if too_long or ".." in parts else parts


def _refused(entry: Entry, problem: str) -> Forbidden:
    message = f"The archive was not unpacked: {entry.name[:100]!r} in it {problem}. Use an image that you trust."
    return Forbidden(message, code="unsafe_archive")
