"""The import contract names exactly the modules that call themselves pure (``--write`` brings it up to date).

A module says so by ending the first paragraph of its docstring with "(pure)" or "(pure)." somewhere in it.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("mesh", "node", "api", "explorer")
CONTRACT = "pure modules do no I/O, read no clock and draw no numbers"


def main(arguments: list[str]) -> int:
    """Compare or write; get the exit code."""
    pure = sorted(name for package in PACKAGES for name in _pure_modules(ROOT / package))
    settings = ROOT / "pyproject.toml"
    text = settings.read_text()
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    listed = next(contract["source_modules"] for contract in contracts if contract["name"] == CONTRACT)
    if listed == pure:
        return 0
    if "--write" in arguments:
        settings.write_text(_replaced(text, pure))
        return 0
    for name in sorted(set(pure) ^ set(listed)):
        print(
            f"{name}: {'calls itself pure but is not in' if name in pure else 'is not pure any more but in'} the list"
        )
    print("Run scripts/fix to bring the contract in pyproject.toml up to date.")
    return 1


def _pure_modules(package: Path) -> list[str]:
    names = []
    for path in package.rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if "(pure)" in docstring.split("\n\n")[0]:
            names.append("localai." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
    return names


def _replaced(text: str, pure: list[str]) -> str:
    head, _, tail = text.partition(f'name = "{CONTRACT}"')
    before, _, after = tail.partition("source_modules = [")
    _, _, rest = after.partition("]")
    listing = "".join(f'    "{name}",\n' for name in pure)
    return f'{head}name = "{CONTRACT}"{before}source_modules = [\n{listing}]{rest}'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
