"""Tasks of LocalAI's API for which there is no backend yet: their paths say so (shell).

Without them a client would be told that the path does not exist, and would look for the mistake in its address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from localai.api.operations import Operation
from localai.api.routes.paths import add_route
from localai.mesh.errors import Unsupported

TASKS: dict[str, tuple[str, ...]] = {
    "image generation": ("/v1/images/generations", "/images/generations"),
    "image editing": ("/v1/images/inpainting", "/images/inpainting", "/v1/images/edits"),
    "transcription": ("/v1/audio/transcriptions", "/audio/transcriptions"),
    "speech": ("/v1/audio/speech", "/audio/speech", "/tts"),
    "voice detection": ("/v1/vad", "/vad", "/v1/audio/vad"),
    "object detection": ("/v1/detection",),
    "video generation": ("/video", "/v1/video/generations"),
    "moderation": ("/v1/moderations", "/moderations"),
}
"""What is asked -> the paths that ask for it. A task that gets a backend leaves this table."""


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for task, paths in TASKS.items():
        operation = Operation(summary=f"{task.capitalize()}: there is no backend for it yet.", errors=(501,))
        for path in paths:
            add_route(router, "POST", path, _refuse(task), operation)


def _refuse(task: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    message = (
        f"No backend here can do {task}, and this version has none to install. "
        "Send such requests to another server; GET /v1/models lists what this one has."
    )

    async def refuse(http: web.Request) -> web.StreamResponse:
        await http.read()  # to its end and within its limit, so that the connection stays usable
        raise Unsupported(message, code="no_backend")

    return refuse
