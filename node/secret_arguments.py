"""Which words of a command line are secret, so that they can be taken out of it and put back (pure).

Everybody on a machine can read the command lines of all processes. ``cli`` therefore starts the program anew without
the secret words and hands those over in another way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from localai.mesh.errors import SetupError
from localai.node.arguments import read_tokens
from localai.node.option_table import options_of
from localai.node.options import Command, UsageError

SecretWord: TypeAlias = tuple[int, str]
"""Where it stood among the tokens of its command, and the token."""


@dataclass(frozen=True, slots=True)
class Separated:
    """The tokens of one command, apart."""

    public: tuple[str, ...]
    secret: tuple[SecretWord, ...]


def separate(command: Command | None, tokens: Sequence[str]) -> Separated:
    """Take out the secret options with their flags, and the secret argument.

    A command line that cannot be read stays whole: it is about to be refused.
    """
    try:
        said = read_tokens(options_of(command.name), tokens) if command else []
    except UsageError:
        said = []
    takes_secret = bool(command and command.argument and command.argument.secret)
    positions = {
        position
        for each in said
        if (each.option.secret if each.option else takes_secret and not each.help and each.text != "-")
        for position in each.tokens
    }
    return Separated(
        public=tuple(token for position, token in enumerate(tokens) if position not in positions),
        secret=tuple((position, tokens[position]) for position in sorted(positions)),
    )


def put_back(separated: Separated) -> list[str]:
    """The tokens as they were."""
    tokens = list(separated.public)
    for position, token in separated.secret:
        tokens.insert(position, token)
    return tokens


def render_secret_words(words: Sequence[SecretWord]) -> bytes:
    """The words as bytes to hand over."""
    return json.dumps(words).encode()


def parse_secret_words(data: bytes) -> tuple[SecretWord, ...]:
    """The words that were handed over.

    Raises:
        SetupError: they did not come from :func:`render_secret_words`.
    """
    try:
        return tuple((position, token) for position, token in json.loads(data) if _is_word(position, token))
    except (ValueError, TypeError, RecursionError) as error:
        message = "The secrets of the command line got lost on the way. Start the program again."
        raise SetupError(message, code="secret_arguments", detail=type(error).__name__) from error


def _is_word(position: object, token: object) -> bool:
    if not isinstance(position, int) or not isinstance(token, str):
        raise TypeError("not a word and its place")
    return True
