"""A template, ready to be rendered any number of times (pure)."""

from __future__ import annotations

from localai.node.go_template.errors import Source
from localai.node.go_template.evaluator import evaluate, why_not_callable
from localai.node.go_template.parser import parse
from localai.node.go_template.values import Value


class Template:
    """One parsed template. ``name`` is what messages call it at the beginning of a sentence.

    Raises:
        BadTemplate: on construction, when the text is not a template we can run.
    """

    def __init__(self, text: str, name: str = "The prompt template") -> None:
        self._source = Source(text, name)
        self._tree = parse(self._source, why_not_callable)

    def render(self, data: Value) -> str:
        """The text for ``data``, which is the template's dot: a :class:`Record`, or plain dicts, lists, texts, numbers.

        Raises:
            TemplateFailed: the template does not work on these values.
            BadTemplate: it goes over a limit of ``limits.py``.
        """
        return evaluate(self._tree, self._source, data)
