from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localai.node.testing.small_disk import can_mount, on_small_disk, seen_by

WRITE = """
import os, sys
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        print(file.write(bytes(1 << 20)), flush=True)
        file.write(bytes(1 << 20))
except OSError as error:
    print(error.strerror, flush=True)
input()
"""


@pytest.mark.skipif(not can_mount(), reason="needs mount namespaces")
def test_only_so_much_fits_and_nobody_else_sees_it(tmp_path: Path) -> None:
    (tmp_path / "before").write_text("x")
    words = [*on_small_disk(tmp_path, (1 << 20) + 4096), sys.executable, "-c", WRITE, str(tmp_path / "file")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{1 << 20}\n"
        assert process.stdout.readline() == "No space left on device\n"
        assert sorted(path.name for path in seen_by(process.pid, tmp_path).iterdir()) == ["before", "file"]
        assert [path.name for path in tmp_path.iterdir()] == ["before"]
        process.communicate("\n")
    assert process.returncode == 0
