from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from localai.node.option_table import COMMANDS, OPTIONS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "cli.md"


def test_the_document_is_what_the_table_says() -> None:
    script = ROOT / "scripts" / "generate_cli_docs.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_option_variable_and_command_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = [name for option in OPTIONS if not option.hidden for name in (*option.names, *option.env)]
    assert [name for name in names if f"`{name}`" not in text] == []
    assert [command.name for command in COMMANDS if f"### localai {command.name}\n" not in text] == []
