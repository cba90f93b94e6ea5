"""Environments of what we compare with: other programs never share ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path


def pinned_environment(requirements: Path) -> Path:
    """An environment with the packages of a lock file, made at first use and kept per user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localai-mesh"
    folder = cache / f"bench-{requirements.stem}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if not (folder / "ready").exists():
        print(f"Installing {requirements.name} into {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--require-hashes"]
        subprocess.run([*pip, "--only-binary", ":all:", "-r", str(requirements)], check=True)
        (folder / "ready").touch()
    return folder
