"""The name under which a fetched file is kept (pure): one name of the models folder, never a path out of it."""

from __future__ import annotations

import hashlib
import re
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from localai.node.gallery.index import PypiMember
from localai.node.sources.uri import (
    DEFAULT_REGISTRY,
    DEFAULT_TAG,
    GitHubFile,
    HttpsUrl,
    HuggingFaceFile,
    LocalFile,
    OciImage,
    OllamaModel,
)

MAX_NAME_BYTES = 200
"""Leaves room for the endings of partial files; file systems take 255."""
_OURS = (".partial", ".partial.json", ".lock")

Named: TypeAlias = HuggingFaceFile | GitHubFile | HttpsUrl | LocalFile | PypiMember | OllamaModel | OciImage
"""References that stand for one file, or for one model that is kept as a file."""


def local_name(reference: Named) -> str:
    """The base name with what follows an ``@`` cut; for registries the reference with ``/`` and ``:`` as ``__``.

    What gives no usable name is called by the MD5 of its address, with ``.yaml`` if it is a definition.
    """
    match reference:
        case HuggingFaceFile(_, path, _) | GitHubFile(_, _, path, _):
            return safe_name(path, str(reference))
        case PypiMember(_, _, member):
            return safe_name(member, str(reference))
        case LocalFile(path):
            return safe_name(path.name, str(path))
        case HttpsUrl(url):
            return safe_name(unquote(urlsplit(url).path), url)
        case OllamaModel(name, tag):
            return _flat(name, tag)
    is_default = reference.registry == DEFAULT_REGISTRY
    return _flat(
        reference.repository if is_default else f"{reference.registry}/{reference.repository}", reference.reference
    )


def safe_name(path: str, address: str) -> str:
    """The last part of ``path`` if a file may be called so here, else a name made from ``address``."""
    name = path.rpartition("/")[2].partition("@")[0]
    usable = name.isprintable() and not name.startswith((".", "~")) and name == name.strip() and "\\" not in name
    if name and usable and len(name.encode()) <= MAX_NAME_BYTES and not name.endswith(_OURS):
        return name
    ending = ".yaml" if path.lower().endswith((".yaml", ".yml")) else ""
    return hashlib.md5(address.encode(), usedforsecurity=False).hexdigest() + ending


def _flat(name: str, tag: str) -> str:
    full = name if tag == DEFAULT_TAG else f"{name}:{tag}"
    flat = re.sub(r"[/:@]", "__", full)
    return safe_name(flat, full)
