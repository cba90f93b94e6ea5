"""Bodies of installing and deleting models, as LocalAI has them (pure)."""

from __future__ import annotations

from typing import Any

import msgspec


class FileBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file to fetch."""

    filename: str
    sha256: str = ""
    uri: str = ""


class ApplyBody(msgspec.Struct, frozen=True):
    """``POST /models/apply``: ``id`` of a gallery, or ``url`` of a base file, or a definition in place."""

    id: str = ""
    url: str = ""
    name: str = ""
    overrides: dict[str, Any] = {}
    files: list[FileBody] = []
    config_file: dict[str, Any] | None = None


class JobCreated(msgspec.Struct, frozen=True):
    """What was begun, and where to look at it."""

    uuid: str
    status: str


class JobBody(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one job."""

    deletion: bool
    file_name: str
    error: str | None
    processed: bool
    message: str
    progress: float
    phase: str
    current_bytes: int
    total_bytes: int
    file_size: str
    downloaded_size: str
    gallery_element_name: str
    cancelled: bool
    cancellable: bool


class OperationCancelled(msgspec.Struct, frozen=True):
    """What LocalAI says to a cancelled operation."""

    success: bool = True
    message: str = "Operation cancelled"


class GalleryBody(msgspec.Struct, frozen=True):
    """One gallery."""

    url: str
    name: str


class AvailableModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model that can be installed."""

    name: str
    gallery: GalleryBody
    url: str = ""
    description: str = ""
    license: str = ""
    icon: str = ""
    urls: list[str] = []
    tags: list[str] = []
    files: list[FileBody] = []
    size: str = ""
    installed: bool = False
