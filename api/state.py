"""What handlers find in the application (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.node.database.database import Database
from localai.node.dispatch import Dispatch
from localai.node.mcp.sessions import McpSessions
from localai.node.settings import Settings

DISPATCH = web.AppKey("dispatch", Dispatch)
SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
"""What the node remembers. Closed after everything that uses it."""
MCP = web.AppKey("mcp", McpSessions)
"""Connections to the MCP servers that definitions name."""
STARTED = web.AppKey("started", int)
"""When the node started, seconds since 1970: the age of models in lists."""
VERSION = web.AppKey("version", str)
ASKED_MODEL = web.RequestKey("asked_model", str)
"""The model that a request means, once that is known."""
ANSWER_HEADERS = web.AppKey("answer_headers", dict[str, str])
"""Headers that every answer carries."""
