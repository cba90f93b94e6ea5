from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.mesh.secrets import Secret
from localai.node.mcp.servers import (
    MAX_SERVERS,
    ProgramServer,
    RemoteServer,
    parse_servers,
    unknown_server_keys,
)

REMOTE = """
mcpServers:
  weather:
    url: https://weather.example/mcp?key=hidden
    token: hidden
"""
STDIO = """{"mcpServers": {"files": {"command": "npx", "args": ["-y", "--key=hidden"], "env": {"KEY": "hidden"}},
                            "plain": {"command": "/bin/plain"}}}"""


def parse(**block: str) -> tuple[Any, ...]:
    return parse_servers(block, "m.yaml")


def test_both_kinds_as_yaml_and_as_json() -> None:
    assert parse(remote=REMOTE, stdio=STDIO) == (
        RemoteServer("weather", "https://weather.example/mcp?key=hidden", Secret("hidden")),
        ProgramServer("files", "npx", ("-y", "--key=hidden"), (("KEY", Secret("hidden")),)),
        ProgramServer("plain", "/bin/plain"),
    )


def test_nothing_secret_is_shown() -> None:
    servers = parse(remote=REMOTE, stdio=STDIO)
    assert "hidden" not in repr(servers)
    assert {hash(server) for server in servers} == {hash(server) for server in parse(remote=REMOTE, stdio=STDIO)}


@pytest.mark.parametrize("block", [{}, {"remote": ""}, {"stdio": "# nothing yet"}, {"remote": "mcpServers: {}"}])
def test_no_servers(block: dict[str, str]) -> None:
    assert parse_servers(block, "m.yaml") == ()


def one(kind: str, name: object = "a", **entry: object) -> dict[str, str]:
    return {kind: json.dumps({"mcpServers": {name: entry}})}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"remote": "a: [b"}, "is not valid YAML"),
        ({"remote": "[1]"}, "needs the key 'mcpServers'"),
        ({"stdio": "mcpServers: 3"}, "needs the key 'mcpServers'"),
        ({"stdio": "mcpServers: {a: 3}"}, "the server 'a' is no mapping"),
        ({"stdio": "mcpServers: {1: {command: x}}"}, "the name of a server"),
        (one("stdio", "", command="x"), "the name of a server"),
        (one("stdio", "a,b", command="x"), "the name of a server"),
        (one("stdio", " a", command="x"), "the name of a server"),
        (one("stdio", "a" * 65, command="x"), "the name of a server"),
        (one("remote"), "needs an address in 'url'"),
        (one("remote", url="ftp://x/"), "needs an address in 'url'"),
        (one("remote", url="http://"), "needs an address in 'url'"),
        (one("remote", url="http://x:port/"), "needs an address in 'url'"),
        (one("remote", url="http://x/a b"), "needs an address in 'url'"),
        (one("remote", url=3), "needs text in 'url'"),
        (one("remote", url="http://x/", token="a\nb"), "has a token that no HTTP header can hold"),
        (one("stdio"), "needs a program in 'command'"),
        (one("stdio", command="a\0b"), "impossible character"),
        (one("stdio", command="x", args="y"), "a list of texts in 'args'"),
        (one("stdio", command="x", args=[1]), "a list of texts in 'args'"),
        (one("stdio", command="x", env=["y"]), "a mapping to texts in 'env'"),
        (one("stdio", command="x", env={"a": 1}), "a mapping to texts in 'env'"),
        (one("stdio", command="x", env={"a=b": "c"}), "a mapping to texts in 'env'"),
        (one("stdio", command="x", env={"": "c"}), "a mapping to texts in 'env'"),
        (one("remote", url="http://x/") | one("stdio", command="x"), "two servers are called 'a'"),
        (
            {"stdio": json.dumps({"mcpServers": {f"s{i}": {"command": "x"} for i in range(MAX_SERVERS + 1)}})},
            f"there are {MAX_SERVERS + 1} servers",
        ),
    ],
)
def test_what_cannot_be_used_is_named(block: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_servers(block, "m.yaml")
    assert caught.value.message.startswith("m.yaml has an invalid MCP configuration: ")
    assert words in caught.value.message
    assert caught.value.code == "invalid_definition"


def test_unknown_keys_are_told() -> None:
    block = one("remote", url="http://x/", headers={}) | one("stdio", "b", command="x", cwd="/")
    assert unknown_server_keys(block, "m.yaml") == [
        "m.yaml has the unknown key 'headers' in the MCP server 'a': it is ignored.",
        "m.yaml has the unknown key 'cwd' in the MCP server 'b': it is ignored.",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "token", "command", "args", "env", "a"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(VALUES, st.sampled_from(["remote", "stdio"]))
def test_any_text_is_servers_or_refused(value: object, kind: str) -> None:
    try:
        servers = parse_servers({kind: json.dumps({"mcpServers": value})}, "m.yaml")
    except InvalidRequest:
        return
    assert all(server.name for server in servers)
