"""Model references -> what they name, and the address of what has one (pure).

==============================  ==========================================================================
``org/repo``                    a Hugging Face repository; also ``hf://``, ``huggingface://``, ``hf.co/``
``hf://org/repo/path@rev``      one file of it; also ``org/repo@rev/path`` and the addresses of its web pages
``ollama://[user/]name:tag``    a model of the Ollama registry
``oci://registry/name:tag``     an image; also ``quay.io/``, ``ghcr.io/``, ``docker.io/`` without a scheme
``github:owner/repo/path@ref``  one file of a repository; also ``github://`` and the address of its web page
``https://``, ``http://``       a file; ``http://`` only for a file whose SHA-256 is known
``file://``, ``/``, ``./``      a file of this machine; so is a name that ends in .gguf, .yaml or .yml
``pypi:``                       a file inside a package, see ``gallery/index.py``
anything else                   a name of a gallery, or ``gallery@name``
==============================  ==========================================================================

A gallery name may look like a repository (``org/repo``): who has galleries asks them first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote, urlsplit

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.index import PypiMember, parse_pypi_uri
from localai.node.sources.redirects import URL_SAFE

MAX_REFERENCE_CHARS = 4096
DEFAULT_REVISION = "main"
DEFAULT_TAG = "latest"
DEFAULT_REGISTRY = "docker.io"


@dataclass(frozen=True, slots=True)
class HuggingFaceFile:
    """One file of a repository."""

    repo: str
    """``owner/name``."""
    path: str
    revision: str = DEFAULT_REVISION


@dataclass(frozen=True, slots=True)
class HuggingFaceRepo:
    """A repository, of which files are still to be chosen."""

    repo: str
    revision: str = DEFAULT_REVISION
    quantisation: str = ""
    """The one to choose, as in ``hf.co/owner/name:Q4_K_M``; empty when none was named."""


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model of the Ollama registry. A name without a user belongs to its library."""

    name: str
    tag: str = DEFAULT_TAG


@dataclass(frozen=True, slots=True)
class OciImage:
    """An image or artifact of an OCI registry."""

    registry: str
    repository: str
    reference: str = DEFAULT_TAG
    """A tag, or a digest such as ``sha256:...``."""


@dataclass(frozen=True, slots=True)
class GitHubFile:
    """One file of a repository."""

    owner: str
    repo: str
    path: str
    ref: str = DEFAULT_REVISION


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """A file by its address; ``http://`` only where a SHA-256 came with it."""

    url: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine, as written: may be relative or begin with ``~``."""

    path: Path


@dataclass(frozen=True, slots=True)
class GalleryName:
    """A name that only a gallery can explain. ``gallery`` is empty for any of them."""

    gallery: str
    name: str


Reference: TypeAlias = (
    HuggingFaceFile
    | HuggingFaceRepo
    | OllamaModel
    | OciImage
    | GitHubFile
    | HttpsUrl
    | LocalFile
    | PypiMember
    | GalleryName
)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the public services are, or the mirrors that stand for them. Base addresses without a slash at the end."""

    hugging_face: str = "https://huggingface.co"
    ollama: str = "https://registry.ollama.ai"
    github: str = "https://raw.githubusercontent.com"
    registries: tuple[tuple[str, str], ...] = ((DEFAULT_REGISTRY, "https://registry-1.docker.io"),)
    """Name of a registry, and its address when that is not ``https://<name>``."""

    def registry(self, name: str) -> str:
        """The address of a registry."""
        return dict(self.registries).get(name, f"https://{name}")


PUBLIC_ENDPOINTS = Endpoints()

_HUB_PAGES = ("https://huggingface.co", "https://www.huggingface.co", "https://hf.co")
_GITHUB_PAGES = ("https://github.com", "https://www.github.com")
_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO = re.compile(f"{_ID}/{_ID}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+/-]{0,254}")
_LONG_REVISION = re.compile(r"(refs/(?:pr/\d+|convert/[^/]+))(?:/|$)")
_QUANTISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OCI_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_OCI_REPOSITORY = re.compile(f"{_OCI_PART}(?:/{_OCI_PART})*")
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?")
_OLLAMA_NAME = re.compile(f"(?:{_ID}/)?{_ID}")
_GALLERY_NAME = re.compile(r"(?:(?P<gallery>[A-Za-z0-9][\w.-]*)@)?(?P<name>[A-Za-z0-9][\w.:+-]*)", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FILE_ENDINGS = (".gguf", ".yaml", ".yml")

_HUB_EXAMPLE = "hf://owner/repo/model.gguf@main"
_OLLAMA_EXAMPLE = "ollama://llama3.2:1b"
_OCI_EXAMPLE = "oci://ghcr.io/owner/model:tag"
_GITHUB_EXAMPLE = "github:owner/repo/models/model.yaml@main"
_URL_EXAMPLE = "https://example.com/model.gguf"


def parse_reference(text: str, endpoints: Endpoints = PUBLIC_ENDPOINTS, *, sha256: str | None = None) -> Reference:
    """What ``text`` names. ``sha256`` is the known hash of the file, without which ``http://`` is refused.

    Raises:
        InvalidRequest: it names nothing; the message says what is wrong and gives an example.
    """
    text = text.strip()
    if not text:
        raise _bad(text, "is empty", _HUB_EXAMPLE)
    if len(text) > MAX_REFERENCE_CHARS:
        raise _bad(text, f"has more than {MAX_REFERENCE_CHARS} characters", _HUB_EXAMPLE)
    if not text.isprintable():
        raise _bad(text, "has characters that cannot be printed", _HUB_EXAMPLE)
    lowered = text.lower()
    for prefix, parse in _PREFIXES:
        if lowered.startswith(prefix):
            return parse(text, text[len(prefix) :])
    if lowered.startswith(("https://", "http://")):
        return _parse_url(text, endpoints, has_hash=sha256 is not None)
    if scheme := _SCHEME.match(text):
        raise _bad(text, f"begins with {scheme[0]}, which is no scheme known here", _HUB_EXAMPLE)
    return _parse_plain(text)


def resolve_url(reference: HuggingFaceFile | GitHubFile | HttpsUrl, endpoints: Endpoints = PUBLIC_ENDPOINTS) -> str:
    """The address to fetch a file from, percent-encoded."""
    match reference:
        case HuggingFaceFile(repo, path, revision):
            return f"{endpoints.hugging_face}/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}"
        case GitHubFile(owner, repo, path, ref):
            return f"{endpoints.github}/{owner}/{repo}/{quote(ref)}/{quote(path)}"
    return reference.url


def _parse_hub(text: str, rest: str) -> HuggingFaceFile | HuggingFaceRepo:
    """``owner/repo[:quantisation][@revision]``, ``owner/repo/path[@revision]`` or ``owner/repo@revision/path``."""
    owner, _, after = rest.partition("/")
    name, _, path = after.partition("/")
    revision = DEFAULT_REVISION
    name, at, first = name.partition("@")
    if at:
        revision, path = _split_revision(f"{first}/{path}")
    elif "@" in path:
        path, _, revision = path.rpartition("@")
    name, colon, quantisation = name.partition(":")
    if colon and (path or not _QUANTISATION.fullmatch(quantisation)):
        raise _bad(text, "has a ':' that no quantisation of a repository follows", "hf://owner/repo:Q4_K_M")
    repo = _hub_repo(text, owner, name)
    revision = _checked_revision(text, revision, _HUB_EXAMPLE)
    if not path:
        return HuggingFaceRepo(repo, revision, quantisation)
    return HuggingFaceFile(repo, _checked_path(text, path, _HUB_EXAMPLE), revision)


def _split_revision(text: str) -> tuple[str, str]:
    """The revision that ``text`` begins with, and the path after it."""
    if match := _LONG_REVISION.match(text):
        return match[1], text[match.end() :]
    revision, _, path = text.partition("/")
    return unquote(revision), path


def _hub_repo(text: str, owner: str, name: str) -> str:
    repo = f"{owner}/{name}"
    if not _REPO.fullmatch(repo):
        raise _bad(text, "does not begin with the owner and the name of a repository", _HUB_EXAMPLE)
    return repo


def _checked_revision(text: str, revision: str, example: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision or revision.endswith("/"):
        raise _bad(text, f"has the impossible revision {revision[:100]!r}", example)
    return revision


def _checked_path(text: str, path: str, example: str) -> str:
    if "\\" in path or not path.isprintable() or any(part in ("", ".", "..") for part in path.split("/")):
        raise _bad(text, f"has the impossible path {path[:200]!r}", example)
    return path


def _parse_ollama(text: str, rest: str) -> OllamaModel:
    name, _, tag = rest.partition(":")
    if not _OLLAMA_NAME.fullmatch(name):
        raise _bad(text, "has no name of a model, or one with more than a user before it", _OLLAMA_EXAMPLE)
    return OllamaModel(name, _checked_tag(text, tag, _OLLAMA_EXAMPLE) if tag else DEFAULT_TAG)


def _checked_tag(text: str, tag: str, example: str) -> str:
    if not _TAG.fullmatch(tag):
        raise _bad(text, f"has the impossible tag {tag[:150]!r}", example)
    return tag


def _parse_oci(text: str, rest: str) -> OciImage:
    named, at, digest = rest.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _bad(text, "has an '@' that no digest follows", f"oci://ghcr.io/owner/model@sha256:{'0' * 64}")
    first, slash, repository = named.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, repository = DEFAULT_REGISTRY, named
    repository, colon, tag = repository.partition(":")
    if not _REGISTRY.fullmatch(first) or not _OCI_REPOSITORY.fullmatch(repository):
        raise _bad(text, "has no registry and name of an image, in lower case", _OCI_EXAMPLE)
    if first == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if colon:
        _checked_tag(text, tag, _OCI_EXAMPLE)
    return OciImage(first.lower(), repository, digest or tag or DEFAULT_TAG)


def _parse_registry(text: str, _rest: str) -> OciImage:
    """An image that is named without ``oci://``."""
    return _parse_oci(text, text)


def _parse_github(text: str, rest: str) -> GitHubFile:
    if "@" in rest:
        rest, _, ref = rest.rpartition("@")
    else:
        ref = DEFAULT_REVISION
    owner, _, after = rest.partition("/")
    repo, _, path = after.partition("/")
    return _github_file(text, owner, repo, path, ref)


def _github_file(text: str, owner: str, repo: str, path: str, ref: str) -> GitHubFile:
    if not _REPO.fullmatch(f"{owner}/{repo}"):
        raise _bad(text, "does not begin with the owner and the name of a repository", _GITHUB_EXAMPLE)
    ref = _checked_revision(text, ref, _GITHUB_EXAMPLE)
    return GitHubFile(owner, repo, _checked_path(text, path, _GITHUB_EXAMPLE), ref)


def _parse_file(text: str, rest: str) -> LocalFile:
    path = unquote(rest.removeprefix("localhost/") if rest.startswith("localhost//") else rest)
    if not path or "\0" in path or path.endswith("/"):
        raise _bad(text, "names no file", "file:///models/model.gguf")
    return LocalFile(Path(path))


def _parse_pypi(text: str, _rest: str) -> PypiMember:
    return parse_pypi_uri(text)


_PREFIXES: tuple[tuple[str, Callable[[str, str], Reference]], ...] = (
    ("huggingface://", _parse_hub),
    ("hf://", _parse_hub),
    ("hf.co/", _parse_hub),
    ("ollama://", _parse_ollama),
    ("oci://", _parse_oci),
    ("quay.io/", _parse_registry),
    ("ghcr.io/", _parse_registry),
    ("docker.io/", _parse_registry),
    ("github://", _parse_github),
    ("github:", _parse_github),
    ("file://", _parse_file),
    ("pypi:", _parse_pypi),
)


def _parse_url(
    text: str, endpoints: Endpoints, *, has_hash: bool
) -> HuggingFaceFile | HuggingFaceRepo | GitHubFile | HttpsUrl:
    """A web address; pages of the hubs name what they show."""
    try:
        parts = urlsplit(text)
        host, has_password, _port = parts.hostname, parts.username is not None, parts.port
    except ValueError as error:
        raise _bad(text, "is not a web address", _URL_EXAMPLE) from error
    if not host or " " in text:
        raise _bad(text, "is not a web address", _URL_EXAMPLE)
    if has_password:
        shown = f"{parts.scheme}://***@{host}/..."
        raise _bad(shown, "has a name or password in its address, which would be written to files", _URL_EXAMPLE)
    address = f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
    if (page := _below(address, (endpoints.hugging_face, *_HUB_PAGES))) and (named := _from_hub_page(text, page)):
        return named
    if (page := _below(address, _GITHUB_PAGES)) and (file := _from_github_page(text, page)):
        return file
    if parts.scheme == "http" and not has_hash:
        problem = "begins with http://, where anybody on the way can change the file; that needs its SHA-256"
        raise _bad(text, problem, _URL_EXAMPLE)
    return HttpsUrl(quote(text, safe=URL_SAFE))


def _below(address: str, bases: tuple[str, ...]) -> str:
    """The path of an address below one of the bases; empty when it is below none."""
    for base in bases:
        if address.startswith(f"{base}/"):
            return address[len(base) + 1 :].strip("/")
    return ""


def _from_hub_page(text: str, page: str) -> HuggingFaceFile | HuggingFaceRepo | None:
    """What a page of the hub shows; None for what is no model."""
    parts = page.split("/", 3)
    if len(parts) < 2 or parts[0] in ("datasets", "spaces", "api", "docs", "papers", "collections"):
        return None
    repo = _hub_repo(text, parts[0], parts[1])
    if len(parts) == 2:
        return HuggingFaceRepo(repo)
    kind, rest = parts[2], parts[3] if len(parts) == 4 else ""
    revision, path = _split_revision(rest)
    if kind == "tree" and not path:
        return HuggingFaceRepo(repo, _checked_revision(text, revision, _HUB_EXAMPLE))
    if kind not in ("resolve", "blob", "raw"):
        raise _bad(text, "is the page of neither a repository nor a file in it", _HUB_EXAMPLE)
    revision = _checked_revision(text, revision, _HUB_EXAMPLE)
    return HuggingFaceFile(repo, _checked_path(text, unquote(path), _HUB_EXAMPLE), revision)


def _from_github_page(text: str, page: str) -> GitHubFile | None:
    """The file that a page shows; None for other pages, such as files of a release."""
    match page.split("/", 4):
        case [owner, repo, "blob" | "raw", ref, path]:
            return _github_file(text, owner, repo, unquote(path), unquote(ref))
        case _:
            return None


def _parse_plain(text: str) -> HuggingFaceRepo | LocalFile | GalleryName:
    """A reference without a scheme."""
    if text.startswith(("/", "./", "../", "~/")) or text.lower().endswith(_FILE_ENDINGS):
        if text.endswith("/"):
            raise _bad(text, "names no file", "file:///models/model.gguf")
        return LocalFile(Path(text))
    if "/" not in text:
        match = _GALLERY_NAME.fullmatch(text)
        if match is None:
            raise _bad(text, "is neither a name of a gallery nor a reference", _HUB_EXAMPLE)
        return GalleryName(match["gallery"] or "", match["name"])
    found = _parse_hub(text, text)
    if isinstance(found, HuggingFaceFile):
        raise _bad(text, "does not say where the file is", _HUB_EXAMPLE)
    return found


def _bad(text: str, problem: str, example: str) -> InvalidRequest:
    message = f"The model reference {text[:200]!r} {problem}. Give one such as {example}."
    return InvalidRequest(message, code="invalid_uri")
