"""A conversation in which the node carries out calls of MCP tools: what is asked, what is passed on (pure).

One round is one request to the model. Calls of MCP tools stay inside: they are carried out, and the model is asked
again with their results. Calls of the client's own tools end the answer, as always; calls of MCP tools beside them are
dropped, because the model will ask again when it has the client's results.

    request --feed(events)--> answers   nothing pending: the answer is complete
                                        calls pending:   take(outcomes) --> ToolRan for each; the next request

In the last round that is allowed the model may not call MCP tools any more, so that it answers with what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, assert_never

import msgspec

from localai.mesh.errors import Category
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Failed,
    GenerateRequest,
    RequestId,
    Timings,
    ToolCall,
    Usage,
)
from localai.node.mcp.toolbox import Toolbox, ToolOutcome
from localai.node.output_parser import (
    AnswerEvent,
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    OutputParser,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)

DEFAULT_ROUNDS = 10
"""How often calls are carried out for one answer, if the definition does not say it."""


class ToolRan(msgspec.Struct, frozen=True):
    """A call was carried out. ``output`` is what came of it; :func:`told` says how the model is told."""

    call: ToolCall
    server: str
    """Name of the MCP server; empty when there is no such tool."""
    output: str
    is_error: bool = False


RoundEvent: TypeAlias = AnswerEvent | ToolRan


def told(output: str, *, is_error: bool) -> str:
    """What a model is told of a call. Source: LocalAI begins errors so."""
    return f"Error: {output}" if is_error else output


class ToolRounds:
    """The rounds of one answer. Exactly one terminal event comes out, as the last one."""

    def __init__(self, request: GenerateRequest, prompt: ChatInput, toolbox: Toolbox, max_rounds: int) -> None:
        """``prompt`` is that of ``request``, with the client's own tools; the request has one choice."""
        self._first = request
        self._client_tools = prompt.tools
        self._toolbox = toolbox
        self._left = max_rounds
        self._round = 1
        self._usage = Usage(0, 0, 0)
        self._timings = Timings()
        self._pending: tuple[ToolCall, ...] = ()
        self._closed = False
        self._begin(request.id, self._allowed(prompt))

    @property
    def request(self) -> GenerateRequest:
        """What to ask the model now."""
        return self._request

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """Calls to carry out before the next request; none when the answer is complete."""
        return self._pending

    @property
    def closed(self) -> bool:
        """True once the terminal event has come out."""
        return self._closed

    def feed(self, events: Iterable[Event]) -> list[AnswerEvent]:
        """Take raw events of the current request."""
        return self._pass_on([answer for event in events for answer in self._parser.feed(event)])

    def end_of_stream(self) -> list[AnswerEvent]:
        """The stream of the current request has ended."""
        return self._pass_on(self._parser.end_of_stream())

    def take(self, outcomes: Sequence[ToolOutcome]) -> list[RoundEvent]:
        """Take the outcomes of the pending calls, in their order; :attr:`request` is the next one then."""
        ran: list[RoundEvent] = []
        answers: list[ChatMessage] = []
        for call, outcome in zip(self._pending, outcomes, strict=True):
            origin = self._toolbox.origins.get(call.name)
            ran.append(ToolRan(call, origin.server if origin else "", outcome.text, outcome.is_error))
            text = told(outcome.text, is_error=outcome.is_error)
            answers.append(ChatMessage("tool", text, name=call.name, tool_call_id=call.id))
        turn = ChatMessage("assistant", self._text, reasoning=self._reasoning, tool_calls=self._pending)
        before = self._prompt
        # a tool that had to be called has been called; demanding it again would never end
        prompt = msgspec.structs.replace(
            before, messages=(*before.messages, turn, *answers), tool_choice="auto", only_tool=""
        )
        self._pending = ()
        self._left -= 1
        self._round += 1
        self._begin(RequestId(f"{self._first.id}-{self._round}"), self._allowed(prompt))
        return ran

    def _begin(self, request_id: RequestId, prompt: ChatInput) -> None:
        self._prompt = prompt
        # an id of its own: ids of calls are made from it
        self._request = msgspec.structs.replace(self._first, id=request_id, prompt=prompt)
        self._parser = OutputParser(self._request)
        self._text = ""
        self._reasoning = ""
        self._calls: list[ToolCall] = []
        self._places: list[int] = []
        """For each call, in the order of the model: its place among the client's, or -1 less its place in _calls."""
        self._passed = 0

    def _allowed(self, prompt: ChatInput) -> ChatInput:
        """The prompt with the tools that may be called in the next round."""
        if prompt.tool_choice == "none":
            return prompt
        if self._left > 0:
            return msgspec.structs.replace(prompt, tools=(*self._client_tools, *self._toolbox.tools))
        if self._client_tools:
            return msgspec.structs.replace(prompt, tools=self._client_tools)
        return msgspec.structs.replace(prompt, tool_choice="none")

    def _pass_on(self, answers: list[AnswerEvent]) -> list[AnswerEvent]:
        out: list[AnswerEvent] = []
        for answer in answers:
            match answer:
                case AnswerStarted():
                    out += [answer] if self._round == 1 else []
                case TextDelta():
                    self._text += answer.text
                    out.append(answer)
                case ReasoningDelta():
                    self._reasoning += answer.text
                    out.append(answer)
                case ToolCallStart():
                    out += self._called(answer)
                case ToolArgumentsDelta():
                    out += self._with_arguments(answer)
                case ChoiceFinished():
                    self._finish = answer
                case AnswerFinished():
                    out += self._finished(answer)
                case Failed():
                    self._closed = True
                    out.append(answer)
                case _:
                    assert_never(answer)
        return out

    def _called(self, start: ToolCallStart) -> list[AnswerEvent]:
        if any(tool.name == start.name for tool in self._client_tools):
            self._places.append(self._passed)
            self._passed += 1
            return [msgspec.structs.replace(start, index=self._places[-1])]
        self._places.append(-1 - len(self._calls))
        self._calls.append(ToolCall(start.id, start.name, ""))
        return []

    def _with_arguments(self, delta: ToolArgumentsDelta) -> list[AnswerEvent]:
        place = self._places[delta.index]
        if place >= 0:
            return [msgspec.structs.replace(delta, index=place)]
        call = self._calls[-1 - place]
        self._calls[-1 - place] = ToolCall(call.id, call.name, call.arguments + delta.text)
        return []

    def _finished(self, finished: AnswerFinished) -> list[AnswerEvent]:
        self._add(finished)
        finish = self._finish
        # an answer that was cut at its limit may have been cut inside a call
        if not self._calls or self._passed or finish.reason == "length":
            self._closed = True
            finish = msgspec.structs.replace(finish, called_tools=self._passed > 0)
            return [finish, AnswerFinished(self._usage, self._timings)]
        if self._left <= 0:
            self._closed = True
            message = "MCP iteration limit reached: the model goes on calling tools. Raise 'agent.max_iterations'."
            return [Failed(Category.INTERNAL, "mcp_iteration_limit", message)]
        self._pending = tuple(self._calls)
        return []

    def _add(self, finished: AnswerFinished) -> None:
        more, timings = finished.usage, finished.timings
        self._usage = Usage(
            self._usage.prompt_tokens + more.prompt_tokens,
            self._usage.completion_tokens + more.completion_tokens,
            self._usage.cached_tokens + more.cached_tokens,
        )
        self._timings = Timings(
            self._timings.queue_s + timings.queue_s,
            self._timings.prefill_s + timings.prefill_s,
            self._timings.decode_s + timings.decode_s,
        )
