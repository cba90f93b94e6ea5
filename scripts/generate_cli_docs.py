"""Write docs/cli.md from the option table, or with --check say whether it is up to date (exit code 1 if not)."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from localai.node.option_table import COMMANDS, OPTIONS, commands_under, options_of
from localai.node.options import Command, Option

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

OPENING = """\
# Command line

Generated from the option table in `node/option_table.py` by `scripts/generate_cli_docs.py`; do not edit by hand.

`localai` and `local-ai` are the same program. Without a command it runs `localai run`, and options of `run` may
stand before the command.

## Rules for values

- A value comes from the first of: flag, environment variable, `.env` file, default. Of several variable names, the
  first one that is set counts.
- `.env` files are read in this order, and none changes what is set already: `./.env`, `./localai.env`,
  `~/localai.env`, `~/.config/localai.env`, `/etc/localai.env`.
- bool: `--f16` means true; a value needs the equals sign: `--f16=false`. true, 1, yes, false, 0 and no are accepted.
- number: decimal, or with `0x`, `0o`, `0b`. time: with a unit, such as `90s`, `1m30s`, `500ms`.
- list: separated by commas, repeatable; `\\,` is a comma inside an item. A list given by flags replaces that of the
  environment.
- path and file: `~` and relative paths are expanded; the file `-` is standard input.
- A secret given as an argument or flag is taken out of the process list at once; shells remember it all the same.
- An empty variable counts as unset, except for texts, lists, paths and files; for secrets it always counts as unset.

## Exit codes

| Code | When |
|---|---|
| 0 | done, help, version |
| 1 | a variable that cannot be read, or any other problem; the message says what to do |
| 2 | `util hf-scan` found nothing bad, but could not look at everything |
| 80 | the command line is wrong |
| 130 | interrupted before the node ran |
"""


def render_document() -> str:
    """The whole document as text."""
    parts = [OPENING, "\n## Commands\n", *(_command(command) for command in COMMANDS), _global_options()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _command(command: Command) -> str:
    lines = [f"### localai {command.name}", "", command.help]
    if command.is_group:
        below = (f"- `localai {each.name}`: {each.help}" for each in commands_under(command.name))
        return "\n".join([*lines, "", *below])
    if argument := command.argument:
        dots = "..." if argument.repeated else ""
        lines += ["", f"Takes `{argument.metavar}{dots}`: {argument.help}"]
    own = [option for option in options_of(command.name) if option.commands and not option.hidden]
    for group, rows in groupby(own, key=lambda option: option.group):
        lines += ["", f"**{group}**" if group else "**other**", "", *_table(list(rows))]
    return "\n".join(lines)


def _global_options() -> str:
    hidden = [option for option in OPTIONS if option.hidden]
    shown = [option for option in OPTIONS if not option.commands and not option.hidden]
    kept = "; ".join(f"`{option.flag}` ({option.help.rstrip('.')})" for option in hidden)
    return "\n".join(["## Options of every command", "", *_table(shown), "", f"Kept for old scripts: {kept}."])


def _table(options: list[Option]) -> list[str]:
    lines = ["| Flag | Value | Default | Variables | Meaning |", "|---|---|---|---|---|"]
    for option in options:
        flags = ", ".join(f"`{name}`" + (" (old)" if name in option.old_names else "") for name in option.names)
        value = " ".join(f"`{choice}`" for choice in option.choices) or str(option.kind)
        default = f"`{option.default}`" if option.default is not None else ""
        variables = ", ".join(f"`{name}`" for name in option.env)
        secret = " Never shown in logs." if option.secret else ""
        lines.append(f"| {flags} | {value} | {default} | {variables} | {option.meaning}{secret} |")
    return lines


def main(arguments: list[str]) -> int:
    """Write or check; get the exit code."""
    text = render_document()
    if "--check" not in arguments:
        DOCUMENT.write_text(text, encoding="utf-8")
        return 0
    if DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == text:
        return 0
    print("docs/cli.md is out of date; run scripts/generate_cli_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
