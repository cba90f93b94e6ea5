"""Real models for tests and benchmarks, downloaded once per user."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from localai.node.gallery.index import find_entry
from localai.node.gallery.install import install
from localai.node.gallery.progress import shown_install


def model_cache() -> Path:
    """The folder that test models are kept in, for this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "localai-mesh" / "models"


def cached_model(name: str) -> Path:
    """The model file of a gallery entry, installed into the user's cache at first use. Not for a running event loop.

    Raises:
        LocalAIError: as :func:`localai.node.gallery.install.install`.
    """
    entry = find_entry(name)
    with shown_install() as on_progress:
        asyncio.run(install(entry, model_cache(), on_progress, os.environ))
    return model_cache() / entry.definition.model_file
