"""The benchmark harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent.parent / "scripts" / "benchmarks"


def harness(*arguments: str, folder: Path = BENCHMARKS) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_benchmarks_are_listed_with_a_line_each() -> None:
    listing = harness().stdout
    assert "engine     Tokens per second beside llama-server" in listing
    assert "start      From the command to the first token" in listing


def test_rows_become_a_table_and_json(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text((BENCHMARKS / "harness.py").read_text())
    (tmp_path / "toy.py").write_text(
        '"""A toy."""\nfrom harness import Row\n\ndef run(quick: bool) -> list[Row]:\n'
        '    return [Row("speed", 2.0 if quick else 4.0, "x", 8.0, 0.25)]\n'
    )
    result = harness("toy", "--quick", "--json", str(tmp_path / "rows.json"), folder=tmp_path)
    assert "speed" in result.stdout
    row = json.loads((tmp_path / "rows.json").read_text())
    assert row == {"name": "speed", "value": 2.0, "unit": "x", "baseline": 8.0, "ratio": 0.25}


def test_an_unknown_benchmark_is_refused() -> None:
    assert harness("nothing").returncode == 2
