from __future__ import annotations

from typing import Any

import pytest

from localai.api.state import MCP
from localai.node.catalog import Catalog
from localai.node.mcp.servers import ProgramServer
from localai.node.model_config import ModelConfig
from localai.node.testing.mcp_server import program_server


@pytest.mark.e2e
async def test_the_servers_of_a_model_and_their_tools(serve: Any) -> None:
    servers = (program_server(), ProgramServer("broken", "/nowhere/at/all"))
    async with serve(catalog=Catalog((ModelConfig("org/m", "m.gguf", mcp_servers=servers),))) as server:
        status, answer = await server.get("/v1/mcp/servers/org/m")
        assert status == 200
        assert answer["model"] == "org/m"
        working, broken = answer["servers"]
        assert (working["name"], working["type"]) == ("here", "stdio")
        assert "add" in working["tools"]
        assert "error" not in working
        assert broken["tools"] == []
        assert "there is no such program" in broken["error"]
        sessions = server.app[MCP]
        assert sessions.open_count() == 1
    assert sessions.open_count() == 0


async def test_models_without_servers_and_no_models(serve: Any) -> None:
    async with serve() as server:
        status, answer = await server.get("/v1/mcp/servers/m")
        assert (status, answer["error"]["code"]) == (500, "no_mcp_servers")
        status, answer = await server.get("/v1/mcp/servers/nobody")
        assert (status, answer["error"]["code"]) == (400, "model_not_found")
