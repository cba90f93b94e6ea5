"""Every source file has its test file: ``mesh/wire.py`` and ``tests/mesh/test_wire.py``.

:data:`EXCEPTIONS` only shrinks: an entry that is not needed any more fails too.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("mesh", "node", "api", "explorer")
EXCEPTIONS: dict[str, str] = {
    "node/workers/lifecycle_messages.py": "shapes without behaviour, checked through lifecycle.py",
    "api/state.py": "keys without behaviour",
    "api/schemas/openai_responses.py": "shapes without behaviour, checked through the dialects",
    "api/schemas/openai_requests.py": "shapes without behaviour, checked through the dialects",
    "api/schemas/swarm.py": "shapes without behaviour, checked through the routes",
    "api/schemas/monitor.py": "shapes without behaviour, checked through the routes",
    "api/schemas/settings.py": "shapes without behaviour, checked through the routes",
    "api/schemas/system.py": "shapes without behaviour, checked through the routes",
    "api/schemas/ollama.py": "shapes without behaviour, checked through the dialects",
    "api/schemas/rerank.py": "shapes without behaviour, checked through the dialects",
    "api/schemas/stores.py": "shapes without behaviour, checked through the routes",
    "api/schemas/tokens.py": "shapes without behaviour, checked through the dialects",
    "api/schemas/errors.py": "shapes without behaviour, checked through api/errors.py",
    "node/testing/fake_worker.py": "held to the conformance suite in tests/node/testing/test_check_worker.py",
}


def main() -> int:
    """Print what is wrong; get the exit code."""
    problems = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.relative_to(ROOT)
            if path.name == "__init__.py":
                continue
            test = ROOT / "tests" / source.with_name(f"test_{source.name}")
            excepted = str(source) in EXCEPTIONS
            if not test.exists() and not excepted:
                problems.append(f"{source} has no {test.relative_to(ROOT)}")
            if test.exists() and excepted:
                problems.append(f"{source} has a test now: take it off the exceptions")
    problems += [
        f"{source} does not exist any more: take it off the exceptions"
        for source in EXCEPTIONS
        if not (ROOT / source).exists()
    ]
    print("\n".join(problems), end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
