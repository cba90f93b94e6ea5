from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from localai.node.testing.mcp_server import make_server, program_server, remote_server


def test_a_program_is_this_python() -> None:
    server = program_server("s", KEY="value")
    assert server.name == "s"
    assert [(name, value.reveal()) for name, value in server.env] == [("KEY", "value")]


async def test_tools() -> None:
    names = [tool.name for tool in await make_server().list_tools()]
    assert names == ["add", "variable", "pid", "fail", "die", "hang", "talk"]


@pytest.mark.e2e
def test_over_http_only_with_the_token() -> None:
    with remote_server() as server, pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.url)
    assert caught.value.code == 401
    caught.value.close()
