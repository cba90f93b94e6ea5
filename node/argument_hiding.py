"""Starts the program anew without the secret words of its command line, and hands them over unseen (shell).

The words wait in a pipe whose reading end the second program inherits; its number stands in :data:`VARIABLE`. The
process stays the same one: same id, same parent, same terminal. Until then, for about a tenth of a second, the words
can be seen, so a variable or a file is better.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence

from localai.mesh.errors import SetupError
from localai.node.options import Command, UsageError
from localai.node.secret_arguments import Separated, parse_secret_words, put_back, render_secret_words, separate

VARIABLE = "_LOCALAI_SECRETS_FD"
_MAX_BYTES = 1 << 20


def hide_secrets(command: Command | None, tokens: Sequence[str]) -> list[str]:
    """All tokens of the command. Does not return where some of them are secret and in sight: see the module.

    ``tokens`` are those of ``arguments.split_command``.

    Raises:
        UsageError: the secrets are too long to be handed over.
        SetupError: the secrets of the first program cannot be read.
    """
    if descriptor := os.environ.pop(VARIABLE, None):
        return put_back(Separated(tuple(tokens), parse_secret_words(_take(descriptor))))
    separated = separate(command, tokens)
    if command and separated.secret and (head := _program_words()):
        _start_anew([*head, *command.name.split(), *separated.public], separated, os.environ)
    return list(tokens)


def _program_words() -> list[str]:
    """The words before our arguments: interpreter and script. Empty when they cannot be told."""
    own = sys.argv[1:]
    split = len(sys.orig_argv) - len(own)
    return sys.orig_argv[:split] if sys.executable and sys.orig_argv[split:] == own else []


def _start_anew(words: list[str], separated: Separated, environ: MutableMapping[str, str]) -> None:
    descriptor = _hand_over(render_secret_words(separated.secret))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, words, {**environ, VARIABLE: str(descriptor)})


def _hand_over(data: bytes) -> int:
    """A descriptor from which the next program can read the data."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # nobody reads yet: what does not fit into the pipe would never be written
    written = os.write(writer, data)
    os.close(writer)
    if written < len(data):
        os.close(reader)
        raise UsageError("the secrets of this command line are too long; put them into variables or an .env file")
    os.set_inheritable(reader, True)
    return reader


def _take(descriptor: str) -> bytes:
    """What the first program wrote; the descriptor is closed."""
    try:
        with open(int(descriptor), "rb") as file:
            return file.read(_MAX_BYTES)
    except (ValueError, OSError) as error:
        message = f"The secrets of the command line got lost on the way. Start the program again without {VARIABLE}."
        raise SetupError(message, code="secret_arguments", detail=repr(error)) from error
