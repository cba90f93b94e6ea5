"""From raw token events to text, at the node where the request entered (pure).

Keeps back what cannot be shown yet: bytes inside a character, and bytes that may become a stop string. What the
worker names as its parser says how reasoning and tool calls are told from text. Dialects see only what comes out here.

    AnswerStarted?  (TextDelta | ReasoningDelta | ToolCallStart ToolArgumentsDelta+)*  ChoiceFinished{choices}
    AnswerFinished
    ... Failed                                                     in place of the rest, at any point
"""

from __future__ import annotations

import codecs
import hashlib
from typing import TypeAlias, assert_never

import msgspec

from localai.mesh.errors import Category
from localai.node.inference import (
    ChatInput,
    Detokenized,
    Embedded,
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    Progress,
    Scored,
    Started,
    Timings,
    Tokenized,
    TokenLogprob,
    Tokens,
    Usage,
)
from localai.node.stop_strings import StopMatcher
from localai.node.tagged_text import Called, Piece, Said, TagSplitter


class AnswerStarted(msgspec.Struct, frozen=True):
    """A model works on it; the first text follows."""

    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True):
    """More text of one choice, never empty."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens that came with this text, when they were asked for. A token whose bytes were held back
    comes with the text after it."""


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of what the model thinks before it answers, never empty."""

    choice: int
    text: str


class ToolCallStart(msgspec.Struct, frozen=True):
    """The model calls a tool. ``index`` counts the calls of one choice from 0."""

    choice: int
    index: int
    id: str
    name: str


class ToolArgumentsDelta(msgspec.Struct, frozen=True):
    """More of the JSON text of a call's arguments, never empty."""

    choice: int
    index: int
    text: str


class ChoiceFinished(msgspec.Struct, frozen=True):
    """One choice is complete."""

    choice: int
    reason: FinishReason
    stop_string: str | None = None
    called_tools: bool = False


class AnswerFinished(msgspec.Struct, frozen=True):
    """All choices are complete. Terminal."""

    usage: Usage
    timings: Timings


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallStart | ToolArgumentsDelta
AnswerEvent: TypeAlias = AnswerStarted | Delta | ChoiceFinished | AnswerFinished | Failed
TAGGED = "tagged"
"""The parser for models that put tags around reasoning and calls; any other id means that all is text."""
TAGGED_THINKING = "tagged-thinking"
"""The same where the prompt ends with the tag that opens the reasoning."""


class OutputParser:
    """Folds the event stream of one request. One terminal event comes out, whatever goes in."""

    def __init__(self, request: GenerateRequest) -> None:
        self._request = request
        self._choices = [_Choice(request.stop) for _ in range(request.choices)]
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the terminal event has come out."""
        return self._closed

    def feed(self, event: Event) -> list[AnswerEvent]:
        """Take the next raw event. Anything after the terminal one is dropped."""
        if self._closed:
            return []
        match event:
            case Progress():
                return []
            case Started():
                if event.parser_id in (TAGGED, TAGGED_THINKING):
                    self._split_tags(thinking=event.parser_id == TAGGED_THINKING)
                return [AnswerStarted(event.prompt_tokens)]
            case Tokens():
                return self._tokens(event)
            case Finished():
                return self._finish(event)
            case Failed():
                self._closed = True
                return [event]
            case Embedded() | Scored() | Tokenized() | Detokenized():
                self._closed = True
                return [_violation("The answer is one to another kind of request.")]
            case _:
                assert_never(event)

    def end_of_stream(self) -> list[AnswerEvent]:
        """The source ended. Without a terminal event before, that is a failure."""
        if self._closed:
            return []
        self._closed = True
        return [_violation("The answer ended without its last event. Try again.")]

    def _tokens(self, event: Tokens) -> list[AnswerEvent]:
        if not 0 <= event.choice < len(self._choices):
            self._closed = True
            return [_violation("The answer names a choice that was not asked for.")]
        return self._choices[event.choice].feed(event)

    def _split_tags(self, *, thinking: bool) -> None:
        prompt = self._request.prompt
        if not isinstance(prompt, ChatInput):
            return  # how a text goes on is text, tags and all
        for index, choice in enumerate(self._choices):
            choice.tags = choice.tags or TagSplitter(with_tools=bool(prompt.tools), thinking=thinking)
            choice.call_seed = f"{self._request.id}/{index}"

    def _finish(self, event: Finished) -> list[AnswerEvent]:
        self._closed = True
        if len(event.reasons) != len(self._choices):
            return [_violation("The answer ended with another number of choices than was asked for.")]
        out: list[AnswerEvent] = []
        for index, (choice, reason) in enumerate(zip(self._choices, event.reasons, strict=True)):
            out += choice.finish(index)
            reason = "stop_string" if choice.matched else reason
            out.append(ChoiceFinished(index, reason, choice.matched, choice.calls > 0))
        out.append(AnswerFinished(event.usage, event.timings))
        return out


class _Choice:
    """What is held back of one choice."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stops = StopMatcher(stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._logprobs: list[TokenLogprob] = []
        self.matched: str | None = None
        self.tags: TagSplitter | None = None
        self.call_seed = ""
        self.calls = 0

    def feed(self, event: Tokens) -> list[AnswerEvent]:
        if self.matched is None:
            self._logprobs += event.logprobs
        scan = self._stops.feed(event.data)
        if scan.matched is not None:
            self.matched = scan.matched
        text = self._utf8.decode(scan.text)
        plain: list[Piece] = [Said("text", text)] if text else []
        pieces = self.tags.feed(text) if self.tags is not None else plain
        return self._deltas(event.choice, pieces)

    def finish(self, index: int) -> list[AnswerEvent]:
        text = self._utf8.decode(self._stops.flush(), True)
        if self.tags is None:
            pieces: list[Piece] = [Said("text", text)] if text else []
        else:
            pieces = [*self.tags.feed(text), *self.tags.finish()]
        return self._deltas(index, pieces)

    def _deltas(self, choice: int, pieces: list[Piece]) -> list[AnswerEvent]:
        out: list[AnswerEvent] = []
        for piece in pieces:
            match piece:
                case Said(kind="reasoning", text=text):
                    out.append(ReasoningDelta(choice, text))
                case Said(text=text):
                    out.append(TextDelta(choice, text, tuple(self._logprobs)))
                    self._logprobs.clear()
                case Called(name=name, arguments=arguments):
                    out.append(ToolCallStart(choice, self.calls, self._call_id(), name))
                    out.append(ToolArgumentsDelta(choice, self.calls, arguments))
                    self.calls += 1
        return out

    def _call_id(self) -> str:
        """An id that the same call has again, whoever goes on with the answer."""
        return f"call_{hashlib.sha256(f'{self.call_seed}/{self.calls}'.encode()).hexdigest()[:24]}"


def _violation(message: str) -> Failed:
    return Failed(Category.UPSTREAM_FAILED, "upstream_failed", message)
