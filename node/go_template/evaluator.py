"""Tree and values -> text (pure).

Values are reached only through maps, lists and records, never through Python's attributes, and every node, element and
piece of text is paid for, so a hostile template ends with an error and not with the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from enum import Enum, auto
from typing import assert_never

from localai.node.go_template.builtin_functions import BUILTINS
from localai.node.go_template.collection_functions import COLLECTION_FUNCTIONS
from localai.node.go_template.errors import OverLimit, Problem, Source, run_error
from localai.node.go_template.formatting import NO_VALUE, format_value
from localai.node.go_template.functions import call
from localai.node.go_template.limits import MAX_OUTPUT_BYTES, Budget, check_nesting
from localai.node.go_template.nodes import (
    Action,
    Body,
    Call,
    Command,
    Conditional,
    Constant,
    Dot,
    Fields,
    FunctionName,
    Jump,
    Nil,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Tree,
    Variable,
)
from localai.node.go_template.text_functions import TEXT_FUNCTIONS
from localai.node.go_template.values import MISSING, Record, Value, clean_text, is_true, raw_bytes, type_name

_FUNCTIONS = {**BUILTINS, **TEXT_FUNCTIONS, **COLLECTION_FUNCTIONS}
_SHORTCUTS = ("and", "or")
FUNCTION_NAMES = frozenset((*_FUNCTIONS, *_SHORTCUTS))
"""Every function a template can call."""
_BY_LOWER_CASE = {name.lower(): name for name in sorted(FUNCTION_NAMES)}
_REFUSED = {
    "call": "call runs functions inside values, and prompts have none",
    **dict.fromkeys(("now", "date", "ago", "dateInZone", "unixEpoch"), "{} reads the clock, which prompts cannot"),
    **dict.fromkeys(("env", "expandenv"), "{} reads the environment, which is no business of a prompt"),
    **dict.fromkeys(("set", "unset", "merge", "mergeOverwrite"), "{} changes a map, and values here never change"),
    **dict.fromkeys(("randAlpha", "randAlphaNum", "randInt", "uuidv4", "shuffle"), "{} draws random numbers"),
}


class _Flow(Enum):
    """How a body ended."""

    ON = auto()
    BREAK = auto()
    CONTINUE = auto()


class _Nothing(Enum):
    NOTHING = auto()


_NOTHING = _Nothing.NOTHING
"""No value comes down the pipeline."""


def why_not_callable(name: str) -> str | None:
    """Why a template cannot call a function of this name; None when it can."""
    if name in FUNCTION_NAMES:
        return None
    if name in _REFUSED:
        return _REFUSED[name].format(name)
    close = get_close_matches(name.lower(), _BY_LOWER_CASE, n=1, cutoff=0.75)
    return f"there is no function {name[:40]}{f' (the nearest is {_BY_LOWER_CASE[close[0]]})' if close else ''}"


def evaluate(tree: Tree, source: Source, data: Value) -> str:
    """What the template gives for ``data``; ``source`` is for messages.

    Raises:
        TemplateFailed: it does not work on these values.
        BadTemplate: it goes over a limit.
    """
    evaluation = _Evaluation(tree)
    try:
        evaluation.body(tree.body, MISSING if data is None else data)
    except Problem as problem:
        raise run_error(source, evaluation.at, problem) from problem
    return clean_text("".join(evaluation.output))


class _Evaluation:
    def __init__(self, tree: Tree) -> None:
        self.output: list[str] = []
        self.at = 0
        self._defined = tree.defined
        self._budget = Budget()
        self._bytes = 0
        self._depth = 0
        self._variables: list[tuple[str, Value]] = []

    def body(self, body: Body, dot: Value) -> None:
        """Run a whole template."""
        outer, self._variables = self._variables, [("$", dot)]
        self._run(body, dot)
        self._variables = outer

    def _run(self, body: Body, dot: Value) -> _Flow:
        for node in body:
            self._visit(node.at)
            flow = self._node(node, dot)
            if flow is not _Flow.ON:
                return flow
        return _Flow.ON

    def _visit(self, at: int) -> None:
        self.at = at
        self._budget.spend()

    @contextmanager
    def _nested(self) -> Iterator[None]:
        """A block: one level deeper, and its variables end with it."""
        self._depth += 1
        check_nesting(self._depth)
        known = len(self._variables)
        yield
        del self._variables[known:]
        self._depth -= 1

    def _node(self, node: Node, dot: Value) -> _Flow:
        match node:
            case Text():
                self._write(node.text)
            case Action():
                value = self._pipeline(node.pipeline, dot)
                if not node.pipeline.variables:
                    self._print(value)
            case Conditional():
                return self._conditional(node, dot)
            case Range():
                return self._range(node, dot)
            case Call():
                self._call_template(node, dot)
            case Jump():
                return _Flow.BREAK if node.word == "break" else _Flow.CONTINUE
            case _:
                assert_never(node)
        return _Flow.ON

    def _print(self, value: Value) -> None:
        self._write(NO_VALUE if value is None or value is MISSING else format_value(value, self._budget))

    def _write(self, text: str) -> None:
        self._budget.handle(text)
        self._bytes += len(raw_bytes(text))
        if self._bytes > MAX_OUTPUT_BYTES:
            raise OverLimit(f"it gives a text of more than {MAX_OUTPUT_BYTES >> 20} MiB")
        self.output.append(text)

    def _conditional(self, node: Conditional, dot: Value) -> _Flow:
        with self._nested():
            flow = self._chosen(node, dot)
        return flow

    def _chosen(self, node: Conditional, dot: Value) -> _Flow:
        for branch in node.branches:
            value = self._pipeline(branch.condition, dot)
            if is_true(value):
                return self._run(branch.body, value if node.word == "with" else dot)
        return self._run(node.otherwise, dot)

    def _range(self, node: Range, dot: Value) -> _Flow:
        with self._nested():
            first = len(self._variables)
            elements = self._elements(self._pipeline(node.pipeline, dot), node.pipeline)
            flow = self._loop(node, elements, first) if elements else self._run(node.otherwise, dot)
        return flow

    def _loop(self, node: Range, elements: Sequence[tuple[Value, Value]] | range, first: int) -> _Flow:
        names = node.pipeline.variables
        known = len(self._variables)
        for element in elements:
            self._visit(node.at)
            key, value = (element, element) if isinstance(element, int) else element
            given = (key, value) if len(names) == 2 else (value,)
            for position, (name, part) in enumerate(zip(names, given, strict=False)):
                if node.pipeline.declares:
                    self._variables[first + position] = (name, part)
                else:
                    self._assign(name, part)
            flow = self._run(node.body, value)
            del self._variables[known:]
            if flow is _Flow.BREAK:
                break
        return _Flow.ON

    def _elements(self, value: Value, pipeline: Pipeline) -> Sequence[tuple[Value, Value]] | range:
        """Pairs of index or key and element."""
        if value is None or value is MISSING:
            return []
        self._budget.handle(value)
        if isinstance(value, Mapping):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(pipeline.variables) == 2:
                raise Problem("range over a number sets one variable, not two")
            return range(value)
        raise Problem(f"range needs a list, a map or a whole number, not {type_name(value)}")

    def _call_template(self, node: Call, dot: Value) -> None:
        body = self._defined.get(node.name)
        if body is None:
            raise Problem(f'there is no template "{node.name[:40]}"')
        argument = self._pipeline(node.argument, dot) if node.argument else MISSING
        with self._nested():
            self.body(body, argument)

    # Pipelines

    def _pipeline(self, pipeline: Pipeline, dot: Value) -> Value:
        value: Value | _Nothing = _NOTHING
        for command in pipeline.commands:
            self._visit(command.at)
            value = self._command(command, dot, value)
        if value is None or value is _NOTHING:  # as in Go, the value of a pipeline is nothing at all rather than nil
            value = MISSING
        for name in pipeline.variables:
            if pipeline.declares:
                self._variables.append((name, value))
            else:
                self._assign(name, value)
        return value

    def _assign(self, name: str, value: Value) -> None:
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                self._variables[position] = (name, value)
                return
        raise Problem(f"the variable {name[:40]} is not set yet, so = cannot change it; := sets it")

    def _command(self, command: Command, dot: Value, piped: Value | _Nothing) -> Value:
        first, *rest = command.operands
        if isinstance(first, FunctionName):
            return self._function(first, rest, dot, piped)
        if rest or piped is not _NOTHING:
            raise Problem("a value that is no function gets arguments")
        if isinstance(first, Nil):
            raise Problem("nil stands alone; it can only be an argument")
        return self._operand(first, dot)

    def _function(self, function: FunctionName, rest: Sequence[Operand], dot: Value, piped: Value | _Nothing) -> Value:
        if function.name in _SHORTCUTS:
            return self._shortcut(function, rest, dot, piped)
        arguments = [self._operand(operand, dot) for operand in rest]
        if piped is not _NOTHING:
            arguments.append(piped)
        self.at = function.at
        return call(_FUNCTIONS[function.name], function.name, arguments, self._budget)

    def _shortcut(self, function: FunctionName, rest: Sequence[Operand], dot: Value, piped: Value | _Nothing) -> Value:
        """``and`` and ``or``: the first value that decides, and nothing after it runs."""
        value = piped
        for operand in rest:
            value = self._operand(operand, dot)
            if is_true(value) is (function.name == "or"):
                return value
        if value is _NOTHING:
            raise Problem(f"{function.name} takes at least 1 argument, not 0")
        return value if piped is _NOTHING else piped

    def _operand(self, operand: Operand, dot: Value) -> Value:
        match operand:
            case Constant():
                return operand.value
            case Nil():
                return MISSING
            case Dot():
                return dot
            case Variable():
                return self._variable(operand.name)
            case FunctionName():
                return self._function(operand, (), dot, _NOTHING)
            case Pipeline():
                return self._parenthesis(operand, dot)
            case Fields():
                value = self._operand(operand.base, dot)
                self._visit(operand.at)
                return _followed(value, operand.names)
            case _:
                assert_never(operand)

    def _parenthesis(self, pipeline: Pipeline, dot: Value) -> Value:
        self._depth += 1
        check_nesting(self._depth)
        value = self._pipeline(pipeline, dot)
        self._depth -= 1
        return value

    def _variable(self, name: str) -> Value:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise Problem(f"the variable {name[:40]} is not set on this way")


def _followed(value: Value, names: Sequence[str]) -> Value:
    """The field of a field of ``value``. What is missing has only missing fields; nil inside a map has none."""
    for name in names:
        match value:
            case Mapping():
                value = value.get(name, MISSING)
            case Record():
                value = value.get(name)
            case _ if value is not MISSING:
                raise Problem(f"{type_name(value)} has no field .{name[:40]}")
    return value
