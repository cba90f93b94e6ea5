"""Shell completion: what could stand at the cursor, and the scripts that ask (pure).

A script runs the program with ``_LOCALAI_COMPLETE=<shell>`` and the words up to the cursor as
arguments. The answer's first line says what follows: ``words`` (candidates, one a line), ``files``
or ``dirs`` (the shell completes those itself), or ``nothing``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from localai.node.arguments import HELP_FLAGS, scan, split_command
from localai.node.option_table import COMMANDS, RUN, commands_under, options_of
from localai.node.options import Command, Kind, Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "_LOCALAI_COMPLETE"
"""Name of the variable that makes the program answer a completion instead of running."""

Want: TypeAlias = Literal["words", "files", "dirs", "nothing"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One word that fits, with its help."""

    text: str
    help: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What fits at the cursor."""

    want: Want
    candidates: tuple[Candidate, ...] = ()


def complete(words: Sequence[str]) -> Answer:
    """What fits where the last word stands; the last word may be empty."""
    *before, current = words or [""]
    command, rest = split_command(before)
    options = options_of(command.name if command else RUN)
    by_name = {name: option for option in options for name in option.names}
    if "--" not in before:
        if before and (option := _waiting_for_value(by_name, before)):
            return _values(option, current)
        name, equals, text = current.partition("=")
        if equals and (option := by_name.get(name)):
            return _values(option, text)
        if current.startswith("-"):
            return _among(_flags(options), current)
    named = command if command and len(rest) < len(before) else None
    return _positional(named, options, rest, current)


def render_answer(answer: Answer, shell: str) -> str:
    """The answer in the form that the shell's script reads."""
    lines: list[str] = [answer.want]
    for candidate in answer.candidates:
        if shell == "zsh":
            lines.append(f"{candidate.text.replace(':', chr(92) + ':')}:{candidate.help}")
        elif shell == "fish":
            lines.append(f"{candidate.text}\t{candidate.help}")
        else:
            lines.append(candidate.text)
    return "\n".join(lines) + "\n"


def join_split_words(words: Sequence[str]) -> list[str]:
    """Words as typed, where bash has cut ``--flag=value`` into three at the equals sign."""
    joined: list[str] = []
    for word in words:
        after_equals = len(joined) > 0 and joined[-1].startswith("--") and joined[-1].endswith("=")
        flag_before = len(joined) > 0 and joined[-1].startswith("--") and "=" not in joined[-1]
        if after_equals or (word == "=" and flag_before):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _waiting_for_value(by_name: dict[str, Option], before: Sequence[str]) -> Option | None:
    option = by_name.get(before[-1])
    return option if option and option.kind is not Kind.BOOL else None


def _values(option: Option, current: str) -> Answer:
    if option.kind in (Kind.PATH, Kind.FILE):
        return Answer("dirs" if option.kind is Kind.PATH else "files")
    words = ("true", "false") if option.kind is Kind.BOOL else option.choices
    return _among([Candidate(word, "") for word in words], current) if words else Answer("nothing")


def _flags(options: Sequence[Option]) -> list[Candidate]:
    shown = [option for option in options if not option.hidden]
    flags = [Candidate(name, option.help) for option in shown for name in (option.flag, option.short) if name]
    return [*flags, *(Candidate(name, "Show the help and exit.") for name in HELP_FLAGS)]


def _positional(named: Command | None, options: Sequence[Option], rest: Sequence[str], current: str) -> Answer:
    try:
        earlier = scan(options, rest).positionals
    except UsageError:
        return Answer("nothing")
    if named is None and not earlier:
        commands = _commands("", current)
        return commands if commands.candidates else Answer("files")
    if named and named.is_group:
        return Answer("nothing") if earlier else _commands(named.name, current)
    argument = named.argument if named else COMMANDS[0].argument
    if argument is None or argument.secret or (earlier and not argument.repeated):
        return Answer("nothing")
    if argument.choices:
        return _among([Candidate(word, "") for word in argument.choices], current)
    return Answer("files")


def _commands(group: str, current: str) -> Answer:
    return _among([Candidate(command.last_word, command.help) for command in commands_under(group)], current)


def _among(candidates: Sequence[Candidate], current: str) -> Answer:
    return Answer("words", tuple(candidate for candidate in candidates if candidate.text.startswith(current)))


SCRIPTS = {
    "bash": f"""\
# bash completion of localai. Use: source <(localai completion bash)
_localai_complete() {{
    local IFS=$'\\n' answer
    answer=($({VARIABLE}=bash "$1" "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
    COMPREPLY=()
    case "${{answer[0]}}" in
        words) COMPREPLY=("${{answer[@]:1}}") ;;
        files) compopt -o default ;;
        dirs) compopt -o dirnames ;;
    esac
}}
complete -F _localai_complete localai local-ai
""",
    "zsh": f"""\
#compdef localai local-ai
# zsh completion of localai. Use: source <(localai completion zsh), or save it as _localai in a folder of $fpath
_localai() {{
    local -a answer candidates
    answer=("${{(@f)$({VARIABLE}=zsh "${{words[1]}}" "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    [[ "${{words[CURRENT]}}" == --*=* ]] && compset -P '*='
    case "${{answer[1]}}" in
        words) candidates=("${{(@)answer[2,-1]}}"); _describe -V localai candidates ;;
        files) _files ;;
        dirs) _files -/ ;;
    esac
}}
if [[ "${{funcstack[1]}}" == _localai ]]; then _localai "$@"; else compdef _localai localai local-ai; fi
""",
    "fish": f"""\
# fish completion of localai. Use: localai completion fish > ~/.config/fish/completions/localai.fish
function __localai_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer (env {VARIABLE}=fish $words "$current" 2>/dev/null)
    set -l prefix (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    switch "$answer[1]"
        case words
            printf "$prefix%s\\n" $answer[2..-1]
        case files
            printf "$prefix%s\\n" (__fish_complete_path "$value")
        case dirs
            printf "$prefix%s\\n" (__fish_complete_directories "$value")
    end
end
complete -c localai -f -a '(__localai_complete)'
complete -c local-ai -f -a '(__localai_complete)'
""",
}
"""The script of each shell, ready to print."""
