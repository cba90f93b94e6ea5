"""A hub on loopback with a tiny model on it, and an installer that asks it instead of the public ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from localai.node.gallery.gallery_index import GallerySource
from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.references import Installer, open_installer
from localai.node.sources.planning import SourceRules
from localai.node.sources.testing import StubServer, answer, content, stub_server
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import Endpoints
from localai.node.testing.tiny_gguf import write_tiny_gguf


@dataclass
class Hub:
    """Every public service at once, and where installations go."""

    server: StubServer
    models: Path
    model: bytes
    seen: list[InstallProgress] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Of the model."""
        return hashlib.sha256(self.model).hexdigest()

    @property
    def rules(self) -> SourceRules:
        """The stub stands for all services; nothing waits between tries."""
        url = self.server.url
        limits = FetchLimits(idle_s=10.0, total_s=20.0, first_wait_s=0.0, tries=1, space_margin_bytes=0)
        return SourceRules(Endpoints(url, url, url, (("ghcr.io", url),)), limits=limits)

    def files(self) -> list[str]:
        """What is in the models folder, hidden files too."""
        return sorted(str(path.relative_to(self.models)) for path in self.models.rglob("*") if path.is_file())

    def repo(self, repo: str, *paths: str, data: bytes | None = None) -> None:
        """A repository of the hub, each file of it the model."""
        data = self.model if data is None else data
        digest = hashlib.sha256(data).hexdigest()
        tree = [{"type": "file", "path": path, "size": len(data), "lfs": {"oid": digest}} for path in paths]
        self.server.route(f"/api/models/{repo}/tree/main", answer(200, json.dumps(tree)))
        self.server.route(f"/api/models/{repo}/scan", answer(200, json.dumps({"scansDone": True})))
        for path in paths:
            self.server.route(f"/{repo}/resolve/main/{path}", content(data))

    def image(self, repository: str, tag: str, files: Mapping[str, bytes]) -> None:
        """An image of one archive with these files."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        layer = gzip.compress(out.getvalue(), mtime=0)
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        manifest = {"schemaVersion": 2, "layers": [{"mediaType": kind, "digest": digest, "size": len(layer)}]}
        self.server.route(f"/v2/{repository}/manifests/{tag}", answer(200, json.dumps(manifest)))
        self.server.route(f"/v2/{repository}/blobs/{digest}", content(layer))

    def gallery(self, name: str, text: str) -> GallerySource:
        """A gallery with this index."""
        self.server.route(f"/o/{name}/main/index.yaml", answer(200, text))
        return GallerySource(name, f"github:o/{name}/index.yaml")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file that passes every check."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf").read_bytes()


@pytest.fixture
async def hub(tmp_path: Path, tiny_model: bytes) -> AsyncIterator[Hub]:
    """The hub."""
    async with stub_server() as server:
        yield Hub(server, tmp_path / "models", tiny_model)


@pytest.fixture
async def installer(hub: Hub) -> AsyncIterator[Installer]:
    """An installer without galleries."""
    async with open_installer(hub.models, {}, rules=hub.rules) as installer:
        yield installer


@pytest.fixture
def open_with(hub: Hub) -> Any:
    """``async with open_with(gallery, ...) as installer``."""
    return lambda *galleries: open_installer(hub.models, {}, galleries, rules=hub.rules)
