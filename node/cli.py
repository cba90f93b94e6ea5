"""The command line and the composition root: typer commands built from the option table (shell).

The only reader of the environment, and the only module of ``node`` that may import ``api``.
typer gives the commands and their help; the tokens are read by ``arguments`` and ``options``, because the
values of booleans, lists and environment names follow LocalAI's rules (docs/decisions/0001-command-line.md).
Heavy imports happen inside the command that needs them, so that help and completion stay quick.

Exit codes: 0 done, 1 a problem that the message explains, 80 wrong command line, 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import typer
import typer.core

from localai.mesh.errors import LocalAIError, SetupError
from localai.node import completion, dotenv_files
from localai.node.arguments import closest_command, parse, split_command
from localai.node.option_values import Places
from localai.node.options import COMMANDS, RUN, Argument, Command, Option, UsageError, is_set, options_of, resolve
from localai.node.settings import Settings, build_log_settings, build_settings

Start: TypeAlias = Callable[[Settings], int]
"""Runs the node until it is told to stop; returns the exit code."""

EXIT_PROBLEM = 1
EXIT_USAGE = 80

_PROGRAMS = ("localai", "local-ai")


def main(argv: Sequence[str] | None = None, start: Start | None = None) -> int:
    """Run the program with these arguments (those of the process if None); get its exit code."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    if shell := os.environ.get(completion.VARIABLE):
        words = completion.join_split_words(tokens) if shell == "bash" else tokens
        sys.stdout.write(completion.render_answer(completion.complete(words), shell))
        return 0
    command, rest = split_command(tokens)
    _hint(command, tokens)
    try:
        code = _dispatch(command, rest, start or start_node)
    except UsageError as error:
        return _complain(f'{error.message}. See "{_program()} {command.name if command else RUN} --help".', EXIT_USAGE)
    except LocalAIError as error:
        return _complain(error.message, EXIT_PROBLEM)
    except typer.Abort:
        return EXIT_PROBLEM
    return code if isinstance(code, int) else 0


def _dispatch(command: Command | None, rest: list[str], start: Start) -> object:
    root = typer.main.get_command(build_app(start))
    if command is None:
        return root.main(rest, _program(), standalone_mode=False)
    # Straight to the command: typer's group would load pydantic only to check its own --help (0.24 s).
    own = cast("typer.core.TyperGroup", root).commands[command.name]
    return own.main(rest, f"{_program()} {command.name}", standalone_mode=False)


def build_app(start: Start) -> typer.Typer:
    """The typer application with every command of the table."""
    app = typer.Typer(
        name="localai",
        help="One private inference service out of the machines you already own.",
        epilog="Without a command, localai means localai run.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    bodies = {RUN: lambda given: _run(given, start), "version": _version, "completion": _completion}
    for command in COMMANDS:
        body = bodies[command.name]
        app.command(command.name, help=command.help, cls=_command_class(command))(_with_signature(command, body))
    return app


def start_node(settings: Settings) -> int:
    """Compose the node from its parts and run it."""
    from localai.api.app import make_app
    from localai.node.serve import run_node

    return run_node(settings, make_app)


def version() -> str:
    """The installed version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed_version

    try:
        return installed_version("localai-mesh")
    except PackageNotFoundError:
        return "0.0.0"


Given: TypeAlias = dict[str, tuple[str, ...]]
"""Texts by option key, and the positionals under the argument's own name."""

_POSITIONALS = "positionals"


def _run(given: Given, start: Start) -> int:
    if "version" in given:
        return _version(given)
    places = _places()
    problems = dotenv_files.load(Path(places.cwd), Path(places.home))
    options = options_of(RUN)
    values = resolve(options, given, os.environ, places)
    level = next(option for option in options if option.key == "log_level")
    log = build_log_settings(values, level_is_explicit=is_set(level, given, os.environ))
    settings = build_settings(values, given.get(_POSITIONALS, ()), log)
    _configure_logs(settings, problems)
    return start(settings)


def _version(given: Given) -> int:
    typer.echo(version())
    return 0


def _completion(given: Given) -> int:
    typer.echo(completion.SCRIPTS[given[_POSITIONALS][0]], nl=False)
    return 0


def _configure_logs(settings: Settings, problems: Sequence[dotenv_files.Problem]) -> None:
    import structlog

    from localai.mesh.logs import configure_logs

    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    configure_logs(settings.log.level, settings.log.format, secrets=settings.api_keys, colour=colour)
    for problem in problems:
        structlog.get_logger().error("env_file_problem", path=str(problem.path), reason=problem.reason)


def _places() -> Places:
    try:
        cwd = Path.cwd()
    except FileNotFoundError:
        raise SetupError("the current directory no longer exists; change to one that does") from None
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home, as in some containers
        home = Path("/")
    return Places(cwd, home)


def _program() -> str:
    name = Path(sys.argv[0]).name
    return name if name in _PROGRAMS else _PROGRAMS[0]


def _complain(message: str, code: int) -> int:
    typer.echo(f"{_program()}: error: {message}", err=True)
    return code


def _hint(command: Command | None, tokens: Sequence[str]) -> None:
    """Say so when the first token looks like a mistyped command: it is about to be taken for a model."""
    if command is None or command.name != RUN or not tokens or tokens[0] == RUN or tokens[0].startswith("-"):
        return
    first = tokens[0]
    close = closest_command(first, [each.name for each in COMMANDS])
    if close and "://" not in first and not Path(first).exists():
        note = f'"{first}" is taken as a model; did you mean "{_program()} {close}"?'
        typer.echo(f"{_program()}: hint: {note}", err=True)


def _command_class(command: Command) -> type[typer.core.TyperCommand]:
    """A typer command whose tokens are read by our own parser; typer still renders its help."""

    class TableCommand(typer.core.TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            parsed = parse(command, options_of(command.name), args)
            if parsed.help:
                typer.echo(ctx.get_help(), nl=False)
                raise typer.Exit
            ctx.params = {key: tuple(texts) for key, texts in parsed.texts.items()}
            if command.argument:
                ctx.params[_POSITIONALS] = parsed.positionals
            return []

    return TableCommand


def _with_signature(command: Command, body: Callable[[Given], int]) -> Callable[..., int]:
    """The body as a function with one parameter per row, which is how typer learns what to show."""

    def call(**given: tuple[str, ...]) -> int:
        return body({key: texts for key, texts in given.items() if texts is not None})

    rows = [_option_parameter(option) for option in options_of(command.name)]
    if command.argument:
        rows.insert(0, _argument_parameter(command.argument))
    call.__signature__ = inspect.Signature(rows)  # type: ignore[attr-defined]  # how inspect lets a function describe itself
    call.__annotations__ = {row.name: row.annotation for row in rows}
    return call


def _option_parameter(option: Option) -> inspect.Parameter:
    names = (option.flag, option.short) if option.short else (option.flag,)
    shown = typer.Option(
        None,
        *names,
        help=option.help_line.replace("[", r"\["),
        metavar=option.metavar,
        rich_help_panel=option.group or "Options",
        hidden=option.hidden,
        show_default=False,
    )
    return _parameter(option.key, list[str], shown)


def _argument_parameter(argument: Argument) -> inspect.Parameter:
    default = ... if argument.required else None
    shown = typer.Argument(default, metavar=argument.metavar, help=argument.help, show_default=False)
    return _parameter(_POSITIONALS, list[str] if argument.repeated else str, shown)


def _parameter(name: str, kind: object, shown: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=shown)


if __name__ == "__main__":
    sys.exit(main())
