from __future__ import annotations

import msgspec

from localai.api.schemas.anthropic_responses import (
    BlockMore,
    BlockStart,
    ModelInfo,
    Ping,
    TextBlock,
    TextDeltaOut,
    ToolUseBlock,
)


def test_every_block_and_event_names_its_type() -> None:
    encode = msgspec.json.encode
    assert encode(Ping()) == b'{"type":"ping"}'
    assert encode(ModelInfo("a", "b", "c")) == b'{"type":"model","id":"a","display_name":"b","created_at":"c"}'
    assert encode(BlockMore(1, TextDeltaOut("a"))) == (
        b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}'
    )
    assert encode(BlockStart(0, TextBlock(""))) == (
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
    )
    assert encode(ToolUseBlock("c", "f", msgspec.Raw(b"{}"))) == (b'{"type":"tool_use","id":"c","name":"f","input":{}}')
