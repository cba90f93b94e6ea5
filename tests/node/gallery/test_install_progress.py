from __future__ import annotations

from localai.node.gallery.install_progress import InstallProgress


def test_what_is_not_known_yet_is_nothing() -> None:
    progress = InstallProgress("m", "waiting")
    assert (progress.filename, progress.done_bytes, progress.total_bytes) == ("", 0, 0)
