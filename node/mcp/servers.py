"""The MCP servers of a model: the ``mcp`` block of its definition as values (pure).

``remote`` and ``stdio`` hold one YAML or JSON text each, as other programs with MCP write it:
``{"mcpServers": {"name": {"url": ..., "token": ...}}}`` and ``{"mcpServers": {"name": {"command": ..., "args": [...],
"env": {...}}}}``. What may be a secret (tokens, addresses, arguments, variables) is in no text form of the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from localai.mesh.errors import InvalidRequest
from localai.mesh.secrets import Secret
from localai.node.bounded_yaml import load_yaml
from localai.node.definition_values import Fields, invalid, read_text

NO_TOKEN = Secret("")
MAX_SERVERS = 32
MAX_SERVER_NAME_CHARS = 64
_KEYS = {"remote": ("url", "token"), "stdio": ("command", "args", "env")}


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server that is asked over HTTP."""

    name: str
    url: str = field(repr=False)
    token: Secret[str] = NO_TOKEN
    """Sent as a bearer token; empty for none."""


@dataclass(frozen=True, slots=True)
class ProgramServer:
    """A server that is a program of this machine, asked over its standard input."""

    name: str
    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, Secret[str]], ...] = field(default=(), repr=False)
    """Variables beside the few that every program gets."""


McpServer: TypeAlias = RemoteServer | ProgramServer


def parse_servers(block: Fields, where: str) -> tuple[McpServer, ...]:
    """The servers of a checked ``mcp`` block, remote ones first, each kind in its order.

    Raises:
        InvalidRequest: a text is no YAML, a server is incomplete, or two have one name.
    """
    servers: list[McpServer] = []
    for name, entry in _entries(block, "remote", where).items():
        servers.append(_remote(name, entry, where))
    for name, entry in _entries(block, "stdio", where).items():
        servers.append(_program(name, entry, where))
    names = [server.name for server in servers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _invalid(where, f"two servers are called '{twice}'")
    if len(servers) > MAX_SERVERS:
        raise _invalid(where, f"there are {len(servers)} servers, and {MAX_SERVERS} are the most")
    return tuple(servers)


def unknown_server_keys(block: Fields, where: str) -> list[str]:
    """A sentence for each key of a server in a valid block that nothing here acts on."""
    return [
        f"{where} has the unknown key '{str(key)[:60]}' in the MCP server '{name}': it is ignored."
        for kind, known in _KEYS.items()
        for name, entry in _entries(block, kind, where).items()
        for key in entry
        if key not in known
    ]


def _entries(block: Fields, kind: str, where: str) -> Mapping[str, Fields]:
    """Name -> what is said of the server."""
    try:
        document = load_yaml(read_text(block, kind), f"The text in 'mcp.{kind}'")
    except InvalidRequest as error:
        raise _invalid(where, error.message.rstrip(".")) from error
    if document is None:
        return {}
    entries = document.get("mcpServers") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise _invalid(where, f"'mcp.{kind}' needs the key 'mcpServers' with a mapping of names to servers")
    for name, entry in entries.items():
        _check_name(name, where)
        if not isinstance(entry, dict):
            raise _invalid(where, f"the server '{name}' is no mapping with {' and '.join(_KEYS[kind])}")
    return entries


def _check_name(name: object, where: str) -> None:
    fits = isinstance(name, str) and 0 < len(name) <= MAX_SERVER_NAME_CHARS and name.isprintable()
    if not isinstance(name, str) or not fits or "," in name or name != name.strip():
        most = f"at most {MAX_SERVER_NAME_CHARS} printable characters without commas, no blanks around"
        raise _invalid(where, f"the name of a server must be a text of {most}")


def _remote(name: str, entry: Fields, where: str) -> RemoteServer:
    url, token = _text(entry, "url", name, where), _text(entry, "token", name, where)
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not all("!" <= char <= "~" for char in url):
        raise _invalid(where, f"the server '{name}' needs an address in 'url' that begins with http:// or https://")
    if not all(" " <= char <= "~" for char in token):
        raise _invalid(where, f"the server '{name}' has a token that no HTTP header can hold")
    return RemoteServer(name, url, Secret(token))


def _program(name: str, entry: Fields, where: str) -> ProgramServer:
    command = _text(entry, "command", name, where)
    args, env = entry.get("args") or [], entry.get("env") or {}
    if not command:
        raise _invalid(where, f"the server '{name}' needs a program in 'command'")
    if not isinstance(args, list) or not all(map(_is_argument, args)):
        raise _invalid(where, f"the server '{name}' needs a list of texts in 'args': put numbers in quotes")
    if not isinstance(env, dict) or not all(_is_variable(*pair) for pair in env.items()):
        raise _invalid(where, f"the server '{name}' needs a mapping to texts in 'env': put numbers in quotes")
    if not _is_argument(command):
        raise _invalid(where, f"the server '{name}' has an impossible character in 'command'")
    return ProgramServer(name, command, tuple(args), tuple((key, Secret(value)) for key, value in env.items()))


def _is_argument(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_variable(name: object, value: object) -> bool:
    return isinstance(name, str) and name != "" and "=" not in name and _is_argument(name) and _is_argument(value)


def _text(entry: Fields, key: str, name: str, where: str) -> str:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise _invalid(where, f"the server '{name}' needs text in '{key}': put it in quotes")
    return value or ""


def _invalid(where: str, problem: str) -> InvalidRequest:
    return invalid(where, f"has an invalid MCP configuration: {problem}")
