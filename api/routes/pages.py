"""Pages for people and their static parts (shell)."""

from __future__ import annotations

from pathlib import Path

import jinja2
from aiohttp import web

from localai.api.state import DISPATCH, SETTINGS, VERSION

_WEB = Path(__file__).parent.parent / "web"
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_WEB / "templates"), autoescape=True)


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    router.add_get("/", status_page)
    router.add_static("/static", _WEB / "static")


async def status_page(http: web.Request) -> web.Response:
    """This node at a glance. It holds no secrets: the page asks ``/system`` for everything that needs a key."""
    text = _TEMPLATES.get_template("status.html").render(
        version=http.app[VERSION],
        url=f"{http.scheme}://{http.host}",
        needs_key=bool(http.app[SETTINGS].api_keys),
        phase=http.app[DISPATCH].phase,
    )
    return web.Response(text=text, content_type="text/html")
