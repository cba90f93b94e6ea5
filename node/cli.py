"""The command line and the composition root: typer commands built from the option table (shell).

The only reader of the environment, and the only module of ``node`` that may import ``api``.
typer gives the commands and their help; the tokens are read by ``arguments`` and ``options``, because the
values of booleans, lists and environment names follow LocalAI's rules (docs/decisions/0001-command-line.md).
Heavy imports happen inside the command that needs them, so that help and completion stay quick.

Exit codes: 0 done, 1 a problem that the message explains, 2 a scan that could not look at everything, 80 wrong command
line, 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import typer
import typer.core

from localai.mesh.errors import LocalAIError, SetupError
from localai.mesh.secrets import Secret
from localai.node import completion, dotenv_files
from localai.node.argument_hiding import hide_secrets
from localai.node.arguments import HELP_FLAGS, closest_command, parse, split_command
from localai.node.effective_options import EffectiveOption, effective_options
from localai.node.option_table import (
    COMMANDS,
    FEDERATED,
    GGUF_INFO,
    HF_SCAN,
    MODELS,
    MODELS_DELETE,
    MODELS_INFO,
    MODELS_INSTALL,
    MODELS_LIST,
    RUN,
    TOKEN_INSPECT,
    TOKEN_NEW,
    TOKEN_QR,
    USECASES,
    commands_under,
    options_of,
)
from localai.node.option_values import Places
from localai.node.options import Argument, Command, Option, UsageError, Values, is_set, resolve, without_effect
from localai.node.settings import (
    LogSettings,
    Settings,
    SwarmSettings,
    build_entry_settings,
    build_log_settings,
    build_settings,
    build_swarm_settings,
    token_secrets,
    wants_swarm,
)
from localai.node.version import program_version

if TYPE_CHECKING:
    from localai.mesh.network_token import NetworkToken

Start: TypeAlias = Callable[[Settings], int]
"""Runs the node until it is told to stop; returns the exit code."""

EXIT_PROBLEM = 1
EXIT_USAGE = 80

_PROGRAMS = ("localai", "local-ai")
_TABLE_COLUMNS = 120
"""From this width on help is shown as tables; narrower ones would cut the names of variables."""


def main(argv: Sequence[str] | None = None, start: Start | None = None) -> int:
    """Run the program with these arguments (those of the process if None); get its exit code.

    Only the arguments of the process can hold secrets that others see: then the program is started anew without them.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    if shell := os.environ.get(completion.VARIABLE):
        words = completion.join_split_words(tokens) if shell == "bash" else tokens
        sys.stdout.write(completion.render_answer(completion.complete(words), shell))
        return 0
    command, rest = split_command(tokens)
    _hint(command, tokens)
    try:
        if argv is None:
            rest = hide_secrets(command, rest)
        code = _dispatch(command, rest, start or start_node)
    except UsageError as error:
        end = "" if error.message.endswith("?") else "."
        advice = f'See "{_program()} {command.name if command else RUN} --help".'
        return _complain(f"{error.message}{end} {advice}", EXIT_USAGE)
    except LocalAIError as error:
        return _complain(error.message, EXIT_PROBLEM)
    except typer.Abort:
        return EXIT_PROBLEM
    return code if isinstance(code, int) else 0


def _dispatch(command: Command | None, rest: list[str], start: Start) -> object:
    if command and command.name == MODELS and not any(token in HELP_FLAGS for token in rest):
        command = next(each for each in commands_under(MODELS) if each.name == MODELS_LIST)
    # Straight to the command: typer's group would load pydantic only to check its own --help (0.24 s).
    found: Any = typer.main.get_command(build_app(start))
    for name in command.name.split() if command else ():
        found = cast("typer.core.TyperGroup", found).commands[name]
    if command and command.is_group:
        parse(command, options_of(command.name), rest)
        rest = ["--help"]
    return found.main(rest, f"{_program()} {command.name}" if command else _program(), standalone_mode=False)


def build_app(start: Start) -> typer.Typer:
    """The typer application with every command of the table."""
    bodies: dict[str, Callable[[Given], int]] = {
        RUN: lambda given: _run(given, start),
        FEDERATED: lambda given: _federated(given, start),
        TOKEN_NEW: _token_new,
        TOKEN_INSPECT: _token_inspect,
        TOKEN_QR: _token_qr,
        MODELS_LIST: _models_list,
        MODELS_INSTALL: _models_install,
        MODELS_DELETE: _models_delete,
        MODELS_INFO: _models_info,
        GGUF_INFO: _gguf_info,
        HF_SCAN: _hf_scan,
        USECASES: _usecases,
        "version": _version,
        "completion": _completion,
    }
    program = _typer_group("One private inference service out of the machines you already own.")
    program.info.epilog = "Without a command, localai means localai run."
    groups = {"": program}
    for command in COMMANDS:
        if command.is_group:
            groups[command.name] = _typer_group(command.help)
            groups[command.parent].add_typer(groups[command.name], name=command.last_word)
        else:
            add = groups[command.parent].command(command.last_word, help=command.help, cls=_command_class(command))
            add(_with_signature(command, bodies[command.name]))
    return program


def _typer_group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if _has_room_for_tables() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def start_node(settings: Settings) -> int:
    """Compose the node from its parts and run it."""
    from localai.api.app import make_runner
    from localai.node.serve import run_node

    return run_node(settings, make_runner)


Given: TypeAlias = dict[str, tuple[str, ...]]
"""Texts by option key, and the positionals under the argument's own name."""

_POSITIONALS = "positionals"


@dataclass(frozen=True, slots=True)
class _Read:
    """What flags and environment say to one command."""

    values: Values
    log: LogSettings
    problems: list[dotenv_files.Problem]
    options: tuple[EffectiveOption, ...]


def _read(command: str, given: Given) -> _Read:
    places = _places()
    before = frozenset(os.environ)
    problems = dotenv_files.load(Path(places.cwd), Path(places.home))
    options = options_of(command)
    values = resolve(options, given, os.environ, places)
    for option in without_effect(options, given, os.environ):
        _say_hint(f"{option.flag} has no effect yet: {option.no_effect}.")
    level = next(option for option in options if option.key == "log_level")
    log = build_log_settings(values, level_is_explicit=is_set(level, given, os.environ))
    effective = effective_options(options, values, given, os.environ, os.environ.keys() - before)
    return _Read(values, log, problems, effective)


def _run(given: Given, start: Start) -> int:
    if "version" in given:
        return _version(given)
    read = _read(RUN, given)
    settings = replace(
        build_settings(read.values, given.get(_POSITIONALS, ()), read.log, _swarm_of_run(read.values, given)),
        options=read.options,
    )
    _configure_logs(read, settings.secrets)
    return start(settings)


def _swarm_of_run(values: Values, given: Given) -> SwarmSettings | None:
    from localai.node.network_token_input import draw_network_token, read_network_token

    if token := read_network_token(values, given, os.environ):
        return build_swarm_settings(values, token)
    if wants_swarm(values):
        return build_swarm_settings(values, draw_network_token(values), token_is_new=True)
    return None


def _federated(given: Given, start: Start) -> int:
    from localai.node.network_token_input import read_network_token

    read = _read(FEDERATED, given)
    token = read_network_token(read.values, given, os.environ)
    if token is None:
        start_swarm, make_token = f"{_program()} {RUN} --p2p", f"{_program()} {TOKEN_NEW}"
        raise UsageError(
            f"{FEDERATED} needs a network token, in LOCALAI_P2P_TOKEN or a file for --p2p-token-file: that of a node "
            f'started with "{start_swarm}", or a new one from "{make_token}"'
        )
    settings = replace(
        build_entry_settings(read.values, read.log, build_swarm_settings(read.values, token)), options=read.options
    )
    _configure_logs(read, settings.secrets)
    return start(settings)


def _token_new(given: Given) -> int:
    from localai.node.token_commands import print_new_token

    read = _read(TOKEN_NEW, given)
    _configure_logs(read, ())
    return print_new_token(read.values, _program())


def _token_inspect(given: Given) -> int:
    from localai.node.token_commands import print_inspection

    return print_inspection(_given_token(TOKEN_INSPECT, _read(TOKEN_INSPECT, given), given))


def _token_qr(given: Given) -> int:
    from localai.node.token_commands import show_code

    read = _read(TOKEN_QR, given)
    output = read.values["output"]
    return show_code(_given_token(TOKEN_QR, read, given), output if isinstance(output, PurePath) else None)


def _given_token(command: str, read: _Read, given: Given) -> NetworkToken:
    from localai.node.network_token_input import read_network_token

    arguments = given.get(_POSITIONALS)
    token = read_network_token(read.values, given, os.environ, arguments[0] if arguments else None)
    if token is None:
        raise UsageError(f"{command} needs a token: as argument, - for standard input, or in LOCALAI_P2P_TOKEN")
    _configure_logs(read, token_secrets(token))
    return token


def _models_list(given: Given) -> int:
    from localai.node.model_commands import list_models

    return list_models(_values(MODELS_LIST, given))


def _models_install(given: Given) -> int:
    from localai.node.model_commands import install_models

    return install_models(_values(MODELS_INSTALL, given), given[_POSITIONALS])


def _models_delete(given: Given) -> int:
    from localai.node.model_commands import delete_models

    return delete_models(_values(MODELS_DELETE, given), given[_POSITIONALS])


def _models_info(given: Given) -> int:
    from localai.node.model_commands import show_model

    return show_model(_values(MODELS_INFO, given), given[_POSITIONALS][0])


def _gguf_info(given: Given) -> int:
    from localai.node.model_commands import show_gguf

    return show_gguf(_values(GGUF_INFO, given), given[_POSITIONALS][0])


def _hf_scan(given: Given) -> int:
    from localai.node.scan_command import scan_models

    columns = shutil.get_terminal_size().columns
    return scan_models(_values(HF_SCAN, given), given.get(_POSITIONALS, ()), os.environ, columns)


def _usecases(given: Given) -> int:
    from localai.node.usecase_command import print_usecases

    return print_usecases(_values(USECASES, given), given.get(_POSITIONALS, ()))


def _values(command: str, given: Given) -> Values:
    read = _read(command, given)
    _configure_logs(read, ())
    return read.values


def _version(given: Given) -> int:
    typer.echo(program_version())
    return 0


def _completion(given: Given) -> int:
    typer.echo(completion.SCRIPTS[given[_POSITIONALS][0]], nl=False)
    return 0


def _configure_logs(read: _Read, secrets: Iterable[Secret[str]]) -> None:
    import structlog

    from localai.mesh.logs import configure_logs

    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    configure_logs(read.log.level, read.log.format, secrets=secrets, colour=colour)
    for problem in read.problems:
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


def _say_hint(note: str) -> None:
    typer.echo(f"{_program()}: hint: {note}", err=True)


def _hint(command: Command | None, tokens: Sequence[str]) -> None:
    """Say so when the first token looks like a mistyped command: it is about to be taken for a model."""
    if command is None or command.name != RUN or not tokens or tokens[0] == RUN or tokens[0].startswith("-"):
        return
    first = tokens[0]
    close = closest_command(first, [each.name for each in commands_under("")])
    if close and "://" not in first and not Path(first).exists():
        _say_hint(f'"{first}" is taken as a model; did you mean "{_program()} {close}"?')


def _command_class(command: Command) -> type[typer.core.TyperCommand]:
    """A typer command whose tokens are read by our own parser; typer still renders its help."""

    class TableCommand(typer.core.TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            parsed = parse(command, options_of(command.name), args)
            if parsed.help:
                typer.echo(ctx.get_help(), nl=False)
                raise typer.Exit
            for used, present in parsed.old_names:
                _say_hint(f"{used} is an old name; use {present}.")
            ctx.params = {key: tuple(texts) for key, texts in parsed.texts.items()}
            if command.argument:
                ctx.params[_POSITIONALS] = parsed.positionals
            return []

        def format_options(self, ctx: Any, formatter: Any) -> None:
            """Options under the headings of their groups, for narrow terminals."""
            if command.argument:
                with formatter.section("Arguments"):
                    formatter.write_dl([(command.argument.metavar, command.argument.help)])
            shown = [option for option in options_of(command.name) if not option.hidden]
            for group in dict.fromkeys(option.group for option in shown):
                with formatter.section(group or "Options"):
                    formatter.write_dl([(_spelling(each), each.help_line) for each in shown if each.group == group])
            with formatter.section("Help"):
                formatter.write_dl([("-h, --help", "Show this message and exit.")])

    return TableCommand


def _spelling(option: Option) -> str:
    return f"{option.flag}{f', {option.short}' if option.short else ''} {option.metavar}"


def _has_room_for_tables() -> bool:
    return shutil.get_terminal_size().columns >= _TABLE_COLUMNS


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
        help=option.help_line.replace("[", r"\[") if _has_room_for_tables() else option.help_line,
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
