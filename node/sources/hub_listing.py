"""Which files of a Hugging Face repository make up a model (pure).

Source: the tree of the hub's API, ``GET /api/models/<repo>/tree/<revision>?recursive=true``: a list of objects with
``type``, ``path``, ``size`` and, for large files, ``lfs.oid``, which is the SHA-256 of the content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localai.mesh.errors import NotFound, UpstreamFailed

DEFAULT_QUANTISATIONS = ("q4_k_m",)
PROJECTOR_QUANTISATIONS = ("fp16",)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT_LINK = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository. The hash is known for large files only."""

    path: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ChosenFiles:
    """What to fetch of a repository: files of the model, parts in order, and files that read pictures."""

    models: tuple[HubFile, ...]
    projectors: tuple[HubFile, ...]


def parse_tree(value: Any) -> tuple[HubFile, ...]:
    """The files of one page of a listing.

    Raises:
        UpstreamFailed: this is no listing.
    """
    if not isinstance(value, list):
        raise _bad_listing()
    return tuple(_file(entry) for entry in value if not (isinstance(entry, dict) and entry.get("type") != "file"))


def next_page(link: str) -> str | None:
    """The address of the next page, from a ``Link`` header; None at the end."""
    match = _NEXT_LINK.search(link)
    return match[1] if match else None


def choose_gguf(
    repo: str, files: Sequence[HubFile], quantisations: Sequence[str] = DEFAULT_QUANTISATIONS
) -> ChosenFiles:
    """All GGUF files whose path contains one of the quantisations, in any case, or else the last one.

    A file in parts is chosen with all of them. Of the projectors (``mmproj``) one in fp16 is preferred, else the last.

    Raises:
        NotFound: there is no GGUF file, or a part of the chosen one is missing.
    """
    ggufs = [file for file in files if file.path.lower().endswith(".gguf")]
    projectors = [file for file in ggufs if "mmproj" in file.path.lower()]
    models = [file for file in ggufs if "mmproj" not in file.path.lower()]
    if not models:
        names = ", ".join(file.path for file in files[:8]) or "no file at all"
        message = f"The repository {repo} has no GGUF file to run; it has {names}. Choose one that has, often ...-GGUF."
        raise NotFound(message, code="no_gguf")
    chosen = _preferred(models, quantisations) or [models[-1]]
    whole = {each.path: each for file in chosen for each in _all_parts(repo, file, models)}
    preferred = _preferred(projectors, PROJECTOR_QUANTISATIONS) or projectors
    return ChosenFiles(tuple(whole.values()), tuple(preferred[-1:]))


def find_file(repo: str, path: str, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """The file at ``path``, and if it is one of several parts, all of them from the first on.

    Raises:
        NotFound: there is no such file, or a part of it is missing.
    """
    for file in files:
        if file.path == path:
            return _all_parts(repo, file, files)
    raise NotFound(f"The repository {repo} has no file {path}. Check its path and the revision.", code="no_such_file")


def _file(entry: Any) -> HubFile:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not _is_safe(entry["path"]):
        raise _bad_listing()
    lfs = entry.get("lfs")
    lfs = lfs if isinstance(lfs, dict) else {}
    size = lfs.get("size", entry.get("size"))
    oid = lfs.get("oid")
    sha256 = oid.removeprefix("sha256:").lower() if isinstance(oid, str) else ""
    return HubFile(
        entry["path"],
        size if type(size) is int and size >= 0 else None,
        sha256 if _SHA256.fullmatch(sha256) else None,
    )


def _is_safe(path: str) -> bool:
    return path.isprintable() and "\\" not in path and not any(part in ("", ".", "..") for part in path.split("/"))


def _preferred(files: Sequence[HubFile], quantisations: Sequence[str]) -> list[HubFile]:
    return [file for file in files if any(each.lower() in file.path.lower() for each in quantisations)]


def _all_parts(repo: str, file: HubFile, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    match = _PART.fullmatch(file.path)
    if match is None:
        return (file,)
    parts = sorted((other for other in files if _is_part_with(other, match)), key=lambda part: part.path)
    if len(parts) != int(match["count"]):
        message = (
            f"The repository {repo} has {len(parts)} of the {int(match['count'])} parts of {file.path}. Use another."
        )
        raise NotFound(message, code="incomplete_model")
    return tuple(parts)


def _is_part_with(file: HubFile, part: re.Match[str]) -> bool:
    other = _PART.fullmatch(file.path)
    return other is not None and (other["stem"], other["count"]) == (part["stem"], part["count"])


def _bad_listing() -> UpstreamFailed:
    message = "The hub's list of files is not one. Check HF_ENDPOINT and any proxy on the way."
    return UpstreamFailed(message, code="bad_answer")
