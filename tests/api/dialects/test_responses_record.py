from __future__ import annotations

import msgspec
import pytest

from localai.api.dialects.responses_record import (
    MAX_RUNS,
    RUN_NUMBERS,
    StoredResponse,
    begun,
    ended,
    first_number,
    is_expired,
    is_finished,
    parse_record,
    render_record,
    taken_up,
)
from localai.api.schemas.responses_objects import (
    OutputCall,
    OutputCallOutput,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    Response,
    Status,
)
from localai.api.schemas.responses_requests import FunctionTool, InputItem, InputPart, ToolChoice
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, Media, RequestId

REQUEST = GenerateRequest(
    RequestId("resp_1"), "m", ChatInput((ChatMessage("user", "x", media=(Media("image", b"\xff\x00"),)),))
)


def response(status: Status = "queued") -> Response:
    return Response(
        id="resp_1",
        created_at=5,
        status=status,
        model="m",
        output=[
            OutputReasoning(id="rs_1_0", status="completed", content=[ReasoningText("hm")]),
            OutputMessage(id="msg_1_1", status="completed", content=[OutputText("a\u2028\x00b")]),
            OutputCall(id="fc_1_2", status="completed", call_id="c", name="f", arguments="{}"),
            OutputCallOutput(id="fco_1_3", status="completed", call_id="c", output="42"),
        ],
        tools=[FunctionTool(type="function", name="f", parameters={"type": "object"})],
        tool_choice=ToolChoice("function", name="f"),
        background=True,
    )


def record(status: Status = "queued", runs: int = 0) -> StoredResponse:
    items = [InputItem("message", "msg_1_in0", role="user", content=[InputPart("input_text", text="x")])]
    return StoredResponse(
        response=response(status), owner="o", expires_at=9, input=items, streamed=True, request=REQUEST, runs=runs
    )


@pytest.mark.parametrize("servers", [None, (), ("a", "b")])
def test_the_servers_of_a_record_come_back(servers: tuple[str, ...] | None) -> None:
    stored = msgspec.structs.replace(record(), mcp_servers=servers)
    assert parse_record(render_record(stored)) == stored
    assert taken_up(stored, 9.0).mcp_servers == servers
    assert ended(stored, response("completed")).mcp_servers is None


def test_a_record_comes_back_as_it_was() -> None:
    assert parse_record(render_record(record())) == record()
    assert "\x00" not in render_record(record())  # PostgreSQL has no such texts


@pytest.mark.parametrize("text", ["", "{}", '{"response": {}}', "[" * 100_000])
def test_what_is_not_understood_is_none(text: str) -> None:
    assert parse_record(text) is None


def test_expiry() -> None:
    assert not is_expired(record(), 8.9)
    assert is_expired(record(), 9)
    assert not is_expired(msgspec.structs.replace(record(), expires_at=0), 1e12)


def test_a_turn_and_an_end() -> None:
    running = begun(record())
    assert (running.response.status, running.runs) == ("in_progress", 1)
    assert (first_number(record()), first_number(running)) == (0, RUN_NUMBERS)
    done = ended(running, response("completed"))
    assert is_finished(done)
    assert done.request is None
    assert not is_finished(running)


def test_a_node_that_starts_begins_it_anew_until_it_was_begun_too_often() -> None:
    again = taken_up(record("in_progress", runs=1), 7.5)
    assert (again.response.status, again.response.output, again.request) == ("queued", [], REQUEST)
    waiting = taken_up(record("queued", runs=0), 7.5)
    assert waiting.response.status == "queued"
    over = taken_up(record("in_progress", runs=MAX_RUNS), 7.5)
    assert over.response.status == "failed"
    assert over.response.completed_at == 7
    assert over.response.error is not None
    assert over.response.error.message.startswith("The node ended 2 times")
    assert taken_up(msgspec.structs.replace(record(), request=None), 1).response.status == "failed"
    finished = record("completed")
    assert taken_up(finished, 7.5) is finished
