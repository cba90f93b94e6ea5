"""What handlers find in the application (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.node.dispatch import Dispatch
from localai.node.settings import Settings

DISPATCH = web.AppKey("dispatch", Dispatch)
SETTINGS = web.AppKey("settings", Settings)
STARTED = web.AppKey("started", int)
"""When the node started, seconds since 1970: the age of models in lists."""
VERSION = web.AppKey("version", str)
