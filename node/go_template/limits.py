"""How much one template may do (pure).

A template comes from a gallery or a stranger, so neither its loops nor its texts may grow without end. Work is counted
in steps: one for each node that runs, each value that is printed, and each piece of text or list that is handled.
"""

from __future__ import annotations

from localai.node.go_template.errors import OverLimit

MAX_TEMPLATE_CHARS = 256 << 10
MAX_OUTPUT_BYTES = 1 << 20
"""UTF-8 bytes of one rendered text."""
MAX_TEXT_CHARS = 1 << 20
"""Characters of any text that a function makes on the way."""
MAX_STEPS = 100_000
MAX_NESTING = 64
"""Blocks, parentheses and template calls inside each other; and lists and maps, when they are printed or compared."""
MAX_VARIABLES = 256
"""Variables known at one place."""

_CHARS_PER_STEP = 64
_ITEMS_PER_STEP = 4


class Budget:
    """What is left for one rendering."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._steps = steps

    def spend(self, steps: int = 1) -> None:
        """Take steps off.

        Raises:
            OverLimit: they are used up.
        """
        self._steps -= steps
        if self._steps < 0:
            raise OverLimit(f"it takes more than {MAX_STEPS} steps")

    def handle(self, value: object) -> None:
        """Pay for passing ``value`` into or out of a function.

        Raises:
            OverLimit: steps are used up.
        """
        if isinstance(value, str):
            self.spend(len(value) // _CHARS_PER_STEP)
        elif isinstance(value, (list, tuple, dict)):
            self.spend(len(value) // _ITEMS_PER_STEP)


def check_text_size(chars: int) -> None:
    """Refuse a text before it is built.

    Raises:
        OverLimit: it would be longer than :data:`MAX_TEXT_CHARS`.
    """
    if chars > MAX_TEXT_CHARS:
        raise OverLimit(f"it makes a text of more than {MAX_TEXT_CHARS >> 20} MiB")


def check_nesting(depth: int) -> None:
    """Refuse what is nested too deep.

    Raises:
        OverLimit: ``depth`` is over :data:`MAX_NESTING`.
    """
    if depth > MAX_NESTING:
        raise OverLimit(f"it is nested deeper than {MAX_NESTING} levels")
