"""What a request means where it says nothing: the numbers of a model's definition, else LocalAI's (pure).

A request goes before the definition, and that before the defaults of :class:`Sampling`. As in LocalAI, 0 for
a penalty counts as not said: its clients send it without meaning it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localai.node.inference import MAX_CHOICES, SEEDS, Sampling

MAX_TOKENS = 2**31 - 1
"""More than any context holds; what is beyond it does not fit into a frame either."""
NO_LIMIT = (0, -1)
"""Numbers of tokens that mean no limit, to LocalAI and to llama.cpp."""
_RANDOM_SEED = -1
_LOCALAI = Sampling()

Range = tuple[float, float]
RANGES: Mapping[str, Range] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_k": (-1, 2**31 - 1),
    "repeat_penalty": (0.01, 10),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "n": (1, MAX_CHOICES),
}
"""Least and greatest value of each number, inclusive."""
ZERO_IS_NOTHING = ("repeat_penalty", "frequency_penalty", "presence_penalty")
"""Numbers for which 0 counts as not said."""


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """What counts for fields that a request leaves out."""

    sampling: Sampling = _LOCALAI
    max_tokens: int | None = None
    """None goes on to the end of the context."""
    choices: int = 1
    ignore_eos: bool = False
    echo: bool = False
    """Completions only: the prompt stands before its continuation."""


NO_DEFAULTS = RequestDefaults()
Numbers = Mapping[str, float | int | None]


def sampling_from(said: Numbers, default: Sampling) -> Sampling:
    """How to draw tokens: what is said, by the names of :data:`RANGES` and ``seed``, else what ``default`` has.

    The numbers are in their ranges. A seed of -1 draws a fresh one.
    """

    def value(name: str, otherwise: float) -> float:
        number = said.get(name)
        return otherwise if number is None or (number == 0 and name in ZERO_IS_NOTHING) else number

    seed = said.get("seed")
    return Sampling(
        temperature=value("temperature", default.temperature),
        top_p=value("top_p", default.top_p),
        top_k=max(0, int(value("top_k", default.top_k))),
        min_p=value("min_p", default.min_p),
        repeat_penalty=value("repeat_penalty", default.repeat_penalty),
        frequency_penalty=value("frequency_penalty", default.frequency_penalty),
        presence_penalty=value("presence_penalty", default.presence_penalty),
        seed=default.seed if seed is None else None if seed == _RANDOM_SEED else int(seed) % SEEDS,
    )
