"""What a model's definition does to a finished answer: cutting, extracting, trimming (pure).

Streams are passed on as they come: what is cut may begin anywhere, and holding text back until the end would be no
stream. Only the prefix reaches them. LocalAI does the same. The patterns are the owner's, but the text is the model's:
texts over :data:`MAX_TEXT_CHARS` are left alone, so that a pattern of quadratic cost stays bearable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT_CHARS = 1 << 15
"""Longest text that patterns are tried on."""


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """What happens to an answer, in this order. Patterns are valid regular expressions of Python."""

    cut: tuple[str, ...] = ()
    """Everything that matches one is removed."""
    extract: tuple[str, ...] = ()
    """If any matches, the first match of each makes the answer."""
    trim_prefixes: tuple[str, ...] = ()
    """Each is removed from the beginning, then blanks around."""
    trim_suffixes: tuple[str, ...] = ()
    """Each is removed from the end, then blanks around."""
    prefix: str = ""
    """Put before every answer, of streams too."""

    def apply(self, text: str) -> str:
        """The answer to give for what the model said."""
        if len(text) <= MAX_TEXT_CHARS:
            for pattern in self.cut:
                text = re.sub(pattern, "", text)
            matches = [match[0] for pattern in self.extract if (match := re.search(pattern, text))]
            text = "".join(matches) or text
        for prefix in self.trim_prefixes:
            text = text.removeprefix(prefix).strip()
        for suffix in self.trim_suffixes:
            text = text.removesuffix(suffix).strip()
        return self.prefix + text


NO_RULES = AnswerRules()
