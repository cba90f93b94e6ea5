"""Runs one benchmark: a module beside this one with ``run(quick) -> list[Row]``.

Prints a table, and with ``--json FILE`` writes the same rows as JSON objects, one per line. ``--quick`` ends within
60 s.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
_NOT_BENCHMARKS = {"harness"}


@dataclass(frozen=True)
class Row:
    """One measured figure; ``baseline`` is the same figure of what it is compared with, ``ratio`` ours over it."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None


def benchmarks() -> dict[str, str]:
    """Name and first docstring line of every benchmark."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text()
        if path.stem not in _NOT_BENCHMARKS and "\ndef run(quick: bool)" in text:
            found[path.stem] = text.split('"""')[1].splitlines()[0]
    return found


def _load(name: str) -> Any:
    """The module of a benchmark, from its file: one may be called like a package of the program."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def show(title: str, rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title=title)
    table.add_column("name")
    for column in ("value", "unit", "baseline", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, _number(row.value), row.unit, _number(row.baseline), _number(row.ratio))
    Console(width=110).print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; get the exit code."""
    known = benchmarks()
    listing = "\n".join(f"  {name:10} {text}" for name, text in known.items())
    parser = argparse.ArgumentParser(
        "scripts/bench", epilog=f"benchmarks:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=known, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, at most 60 s in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there, one JSON object per line")
    options = parser.parse_args(arguments)
    if options.name is None:
        parser.print_help()
        return 0
    rows = _load(options.name).run(options.quick)
    show(f"{options.name} on {platform.processor() or platform.machine()}, Python {platform.python_version()}", rows)
    if options.json is not None:
        options.json.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
