"""Pages for people and their static parts (shell)."""

from __future__ import annotations

from pathlib import Path

import jinja2
from aiohttp import web

from localai.api.operations import Operation
from localai.api.routes.paths import add_route
from localai.api.state import DISPATCH, SETTINGS, VERSION

OLLAMA_RUNS = "Ollama is running"
_WEB = Path(__file__).parent.parent / "web"
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_WEB / "templates"), autoescape=True)


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    add_route(router, "GET", "/", status_page, Operation(content="text/html"))
    router.add_static("/static", _WEB / "static")


async def status_page(http: web.Request) -> web.Response:
    """This node at a glance. It holds no secrets: the page asks ``/system`` for everything that needs a key."""
    if http.app[SETTINGS].ollama_root:
        return web.Response(text=OLLAMA_RUNS)
    return render_page(
        "status.html",
        version=http.app[VERSION],
        url=f"{http.scheme}://{http.host}",
        needs_key=bool(http.app[SETTINGS].api_keys),
        phase=http.app[DISPATCH].phase,
    )


def render_page(template: str, **values: object) -> web.Response:
    """A page made from a template of ``web/templates``."""
    return web.Response(text=_TEMPLATES.get_template(template).render(values), content_type="text/html")
