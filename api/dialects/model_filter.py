"""The ``filter`` of model lists: a regular expression that cannot take long (pure).

Source: LocalAI's model list. It comes from a client and Python's expressions can take for ever, so nothing that repeats
may be inside something that repeats, and little may repeat at all. Names are short, so what is left is quick.
"""

from __future__ import annotations

import re
import warnings

from localai.mesh.errors import InvalidRequest

MAX_CHARS = 200
MAX_REPEATS = 3
_IGNORED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""Escaped characters and sets: what is in them does not repeat."""
_REPEAT = re.compile(r"[*+]|\{")
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_EXTENSION = re.compile(r"\(\?(?!:|i\))")
"""Comments and the verbose mode, which hide what is repeated; of the others only ``(?:`` and ``(?i)`` are needed."""


def model_filter(pattern: str) -> re.Pattern[str]:
    """The expression to search names for.

    Raises:
        InvalidRequest: it is none, or too costly.
    """
    bare = _IGNORED.sub("x", pattern)
    is_costly = len(_REPEAT.findall(bare)) > MAX_REPEATS or _REPEATED_GROUP.search(bare) or _EXTENSION.search(bare)
    if is_costly or len(pattern) > MAX_CHARS:
        message = (
            f"'filter' is too complex. Repeat at most {MAX_REPEATS} times in it and no groups, or send part of a name."
        )
        raise InvalidRequest(message, param="filter")
    try:
        with warnings.catch_warnings(action="ignore"):  # of sets that later versions may read otherwise
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        message = f"'filter' is no regular expression: {error}. Correct it."
        raise InvalidRequest(message[:300], param="filter") from error
