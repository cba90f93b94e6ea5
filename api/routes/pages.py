"""Pages for people and their static parts (shell)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from aiohttp import web

from localai.api.external_url import external_url
from localai.api.operations import Operation
from localai.api.routes.paths import add_route
from localai.api.state import DISPATCH, SETTINGS, VERSION

OLLAMA_RUNS = "Ollama is running"
_CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_WEB = Path(__file__).parent.parent / "web"
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_WEB / "templates"), autoescape=True)


@dataclass(frozen=True, slots=True)
class _Part:
    """A static part of a page, read when the node starts: no path of a client ever reaches the file system."""

    data: bytes
    content_type: str
    etag: str
    changed: datetime


_PARTS = web.AppKey("static_parts", dict[str, _Part])


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and read what they send."""
    router = app.router
    app[_PARTS] = _read_parts(_WEB / "static")
    add_route(router, "GET", "/", status_page, Operation(content="text/html"))
    add_route(router, "GET", "/static/{name}", static_part, Operation(content="*/*", errors=(404,)))


async def status_page(http: web.Request) -> web.Response:
    """This node at a glance. It holds no secrets: the page asks ``/system`` for everything that needs a key."""
    if http.app[SETTINGS].ollama_root:
        return web.Response(text=OLLAMA_RUNS)
    return render_page(
        "status.html",
        version=http.app[VERSION],
        url=external_url(http.headers, http.scheme, http.host),
        needs_key=bool(http.app[SETTINGS].api_keys),
        phase=http.app[DISPATCH].phase,
    )


async def static_part(http: web.Request) -> web.Response:
    """A style sheet, a script or a picture of the pages."""
    part = http.app[_PARTS].get(http.match_info["name"])
    if part is None:
        raise web.HTTPNotFound
    is_known = any(tag.value in (part.etag, "*") for tag in http.if_none_match or ())
    response = web.Response(status=304) if is_known else web.Response(body=part.data, content_type=part.content_type)
    response.etag = part.etag
    response.last_modified = part.changed
    return response


def _read_parts(folder: Path) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for file in folder.iterdir():
        if content_type := _CONTENT_TYPES.get(file.suffix):
            data = file.read_bytes()
            changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            parts[file.name] = _Part(data, content_type, hashlib.sha256(data).hexdigest()[:32], changed)
    return parts


def render_page(template: str, **values: object) -> web.Response:
    """A page made from a template of ``web/templates``."""
    return web.Response(text=_TEMPLATES.get_template(template).render(values), content_type="text/html")
