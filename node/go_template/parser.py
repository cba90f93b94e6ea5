"""Tokens -> tree (pure).

Checked here and not while rendering, as in Go: syntax, function names, undefined variables, ``break`` outside of
``range``. Go calls ``{{$x = 1}}`` with an unknown ``$x`` wrong only when it runs; so do we.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NoReturn

from localai.node.go_template.errors import OverLimit, Source, run_error, syntax_error
from localai.node.go_template.lexer import BLANKS, Sort, Token, tokenize
from localai.node.go_template.limits import MAX_TEMPLATE_CHARS, MAX_VARIABLES, check_nesting
from localai.node.go_template.nodes import (
    Action,
    Body,
    Branch,
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

CheckFunction = Callable[[str], str | None]
"""Why a function of this name cannot be called, as a clause; None when it can."""


def parse(source: Source, check_function: CheckFunction) -> Tree:
    """The tree of a template.

    Raises:
        BadTemplate: the message says what is wrong, where, and what to do.
    """
    if len(source.text) > MAX_TEMPLATE_CHARS:
        raise run_error(source, 0, OverLimit(f"it has more than {MAX_TEMPLATE_CHARS >> 10} Ki characters"))
    return _Parser(source, check_function).run()


@dataclass(slots=True)
class _Scope:
    """What is known inside one template body."""

    variables: list[str]
    ranges: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    """What ended a body: the keyword that was read, and where."""

    word: Literal["end", "else"]
    at: int


class _Parser:
    def __init__(self, source: Source, check_function: CheckFunction) -> None:
        self._source = source
        self._check_function = check_function
        self._tokens = tokenize(source)
        self._position = 0
        self._depth = 0
        self._scope = _Scope(["$"])
        self._defined: dict[str, Body] = {}

    def run(self) -> Tree:
        body: list[Node] = []
        while (token := self._next()).sort is not Sort.END:
            if token.sort is Sort.OPEN and self._accept_keyword("define"):
                self._definition(token)
                continue
            node = self._node(token)
            if isinstance(node, _End):
                self._fail(node.at, f"{{{{{node.word}}}}} has no beginning", "Remove it or write the if it belongs to")
            body.append(node)
        return Tree(tuple(body), self._defined)

    # Bodies

    def _body(self, opened: Token) -> tuple[Body, _End]:
        """Nodes up to ``end`` or ``else``; ``opened`` is the action that wants one."""
        body: list[Node] = []
        with self._nested(opened):
            while (token := self._next()).sort is not Sort.END:
                node = self._node(token)
                if isinstance(node, _End):
                    return tuple(body), node
                body.append(node)
        self._fail(opened.at, "this block does not end", "Close it with {{end}}")

    def _node(self, token: Token) -> Node | _End:
        if token.sort is Sort.TEXT:
            return Text(token.at, token.text)
        word = self._tokens[self._position]
        if word.sort is not Sort.KEYWORD or word.text == "nil":
            return Action(token.at, self._pipeline("an action", Sort.CLOSE))
        self._position += 1
        match word.text:
            case "if" | "with":
                return self._conditional(token, "if" if word.text == "if" else "with")
            case "range":
                return self._range(token)
            case "template":
                return self._call(token)
            case "block":
                return self._block(token)
            case "break" | "continue":
                return self._jump(word, "break" if word.text == "break" else "continue")
            case "end":
                self._close("end")
                return _End("end", token.at)
            case "else":
                return _End("else", token.at)
            case _:
                self._fail(word.at, f"{word.text} cannot stand inside a block", "Move it to the top of the template")

    def _conditional(self, opened: Token, word: Literal["if", "with"]) -> Conditional:
        branches: list[Branch] = []
        otherwise: Body = ()
        with self._variables():
            while True:
                condition = self._pipeline(word, Sort.CLOSE)
                body, end = self._body(opened)
                branches.append(Branch(condition, body))
                if end.word == "end":
                    break
                if not self._accept_keyword(word):
                    otherwise = self._otherwise(opened)
                    break
        return Conditional(opened.at, word, tuple(branches), otherwise)

    def _range(self, opened: Token) -> Range:
        with self._variables():
            pipeline = self._pipeline("range", Sort.CLOSE)
            self._scope.ranges += 1
            body, end = self._body(opened)
            self._scope.ranges -= 1
            otherwise = self._otherwise(opened) if end.word == "else" else ()
        return Range(opened.at, pipeline, body, otherwise)

    def _otherwise(self, opened: Token) -> Body:
        self._close("else")
        body, end = self._body(opened)
        if end.word == "else":
            self._fail(end.at, "this block has a second {{else}}", "Keep one of them")
        return body

    def _jump(self, word: Token, name: Literal["break", "continue"]) -> Jump:
        self._close(name)
        if not self._scope.ranges:
            self._fail(word.at, f"{{{{{name}}}}} stands outside of range", "Use it only inside {{range}}")
        return Jump(word.at, name)

    # Named templates

    def _definition(self, opened: Token) -> None:
        name = self._name("define")
        self._close("define")
        self._define(opened, name)

    def _block(self, opened: Token) -> Call:
        name = self._name("block")
        argument = self._pipeline("block", Sort.CLOSE)
        self._define(opened, name)
        return Call(opened.at, name, argument)

    def _define(self, opened: Token, name: str) -> None:
        outer, self._scope = self._scope, _Scope(["$"])
        body, end = self._body(opened)
        self._scope = outer
        if end.word == "else":
            self._fail(end.at, "{{else}} belongs to no condition", "Remove it")
        if not _is_empty(body):
            if not _is_empty(self._defined.get(name, ())):
                self._fail(opened.at, f'the template "{name}" is defined twice', "Keep one of them")
            self._defined[name] = body
        self._defined.setdefault(name, body)

    def _call(self, opened: Token) -> Call:
        name = self._name("template")
        if self._tokens[self._position].sort is Sort.CLOSE:
            self._position += 1
            return Call(opened.at, name, None)
        return Call(opened.at, name, self._pipeline("template", Sort.CLOSE))

    def _name(self, word: str) -> str:
        token = self._next()
        if token.sort is not Sort.VALUE or not isinstance(token.value, str):
            self._fail(token.at, f"{word} needs a name in quotes", f'Write {{{{{word} "name"}}}}')
        return token.value

    # Pipelines

    def _pipeline(self, context: str, end: Sort) -> Pipeline:
        """Read up to and including the closing braces, or the closing parenthesis when ``end`` is MARK."""
        start = self._tokens[self._position]
        variables, declares = self._assignment(context)
        commands: list[Command] = []
        while True:
            token = self._tokens[self._position]
            if token.sort is Sort.CLOSE or (token.text == ")" and token.sort is Sort.MARK):
                break
            commands.append(self._command(first=not commands))
        if token.sort is not end:
            problem = "a parenthesis is not closed" if end is Sort.MARK else "a ) closes no parenthesis"
            self._fail(token.at, problem, "Check the parentheses")
        if not commands:
            self._fail(token.at, f"{context} has no value", "Write one or remove it")
        self._position += 1
        return Pipeline(start.at, tuple(commands), variables, declares)

    def _assignment(self, context: str) -> tuple[tuple[str, ...], bool]:
        """The variables before ``:=`` or ``=``, and which of the two it is; none if the pipeline begins at once."""
        names: list[str] = []
        position = self._position
        while self._tokens[position].sort is Sort.VARIABLE:
            names.append(self._tokens[position].text)
            mark = self._tokens[position + 1]
            position += 2
            if mark.sort is Sort.MARK and mark.text in (":=", "="):
                self._position = position
                self._scope.variables += names
                if len(self._scope.variables) > MAX_VARIABLES:
                    self._fail(mark.at, f"it sets more than {MAX_VARIABLES} variables", "Use = to change a variable")
                return tuple(names), mark.text == ":="
            if mark.sort is not Sort.MARK or mark.text != ",":
                break
            if context != "range" or len(names) == 2:
                self._fail(mark.at, "too many variables are set at once", "Set one; range may set an index and a value")
        return self._without_assignment(names)

    def _without_assignment(self, names: list[str]) -> tuple[tuple[str, ...], bool]:
        if len(names) == 2 or (names and self._tokens[self._position + 1].text == ","):
            at = self._tokens[self._position].at
            self._fail(at, "after two variables := is missing", "Write {{range $index, $value := ...}}")
        return (), True

    def _command(self, *, first: bool) -> Command:
        start = self._tokens[self._position]
        operands: list[Operand] = []
        while True:
            token = self._tokens[self._position]
            if operands and not token.spaced and not self._ends_command(token):
                self._fail(token.at, "two values stand without a blank between them", "Put a blank between them")
            if token.sort is Sort.CLOSE or (token.sort is Sort.MARK and token.text in "|)"):
                break
            operands.append(self._operand())
        if token.text == "|":
            self._position += 1
        if not operands:
            self._fail(start.at, "a | has no value before it", "Write one or remove the |")
        if not first and isinstance(operands[0], (Constant, Nil, Dot)):
            self._fail(start.at, "after | stands a plain value", "Write a function that takes the value before")
        return Command(start.at, tuple(operands))

    def _ends_command(self, token: Token) -> bool:
        return token.sort is Sort.CLOSE or (token.sort is Sort.MARK and token.text in "|)")

    def _operand(self) -> Operand:
        token = self._next()
        base = self._term(token)
        names: list[str] = []
        if token.sort is Sort.FIELD:
            names.append(token.text)
        while (field := self._tokens[self._position]).sort is Sort.FIELD and not field.spaced:
            names.append(field.text)
            self._position += 1
        if not names:
            return base
        if isinstance(base, (Constant, Nil)) or (isinstance(base, Dot) and token.sort is Sort.DOT):
            self._fail(token.at, "this value has no fields", "Remove the part after the dot")
        return Fields(token.at, base, tuple(names))  # type: ignore[arg-type]  # what is left of Operand has fields

    def _term(self, token: Token) -> Operand:
        match token.sort:
            case Sort.VALUE:
                return Constant(token.at, token.value)
            case Sort.DOT | Sort.FIELD:
                return Dot(token.at)
            case Sort.VARIABLE:
                if token.text not in self._scope.variables:
                    self._fail(token.at, f"the variable {token.text} is not set here", "Set it with := before")
                return Variable(token.at, token.text)
            case Sort.WORD:
                if (reason := self._check_function(token.text)) is not None:
                    self._fail(token.at, reason, "Write the template without it")
                return FunctionName(token.at, token.text)
            case Sort.KEYWORD if token.text == "nil":
                return Nil(token.at)
            case Sort.MARK if token.text == "(":
                with self._nested(token):
                    return self._pipeline("a parenthesis", Sort.MARK)
            case _:
                self._fail(token.at, f"{token.text} cannot stand there", "Correct the action")

    # Tokens and scopes

    def _next(self) -> Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _accept_keyword(self, word: str) -> bool:
        token = self._tokens[self._position]
        found = token.sort is Sort.KEYWORD and token.text == word
        self._position += found
        return found

    def _close(self, word: str) -> None:
        token = self._next()
        if token.sort is not Sort.CLOSE:
            self._fail(token.at, f"{token.text} cannot stand after {word}", f"Write only {{{{{word}}}}}")

    @contextmanager
    def _variables(self) -> Iterator[None]:
        """Variables set inside are gone after it."""
        known = len(self._scope.variables)
        yield
        del self._scope.variables[known:]

    @contextmanager
    def _nested(self, token: Token) -> Iterator[None]:
        self._depth += 1
        try:
            check_nesting(self._depth)
        except OverLimit as problem:
            raise run_error(self._source, token.at, problem) from problem
        yield
        self._depth -= 1

    def _fail(self, at: int, problem: str, advice: str) -> NoReturn:
        raise syntax_error(self._source, at, problem, advice)


def _is_empty(body: Body) -> bool:
    """A definition of nothing but blanks does not replace another one, and is replaced by any."""
    return all(isinstance(node, Text) and not node.text.strip(BLANKS) for node in body)
