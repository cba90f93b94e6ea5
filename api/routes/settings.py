"""What this node is set to, and changing some of it while it runs (shell)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.settings import OptionBody, SettingsBody, SettingsUpdate, SettingsUpdated
from localai.api.state import DISPATCH, SETTINGS
from localai.node.effective_options import EffectiveOption
from localai.node.live_settings import CHANGEABLE, LOCALAI_NAMES, default_options, rules_of, shown_value, updated

_LOG = structlog.get_logger()
_PATH = "/api/settings"


@dataclass(slots=True)
class _Live:
    options: tuple[EffectiveOption, ...]


_LIVE = web.AppKey("live_settings", _Live)


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and what they need."""
    app[_LIVE] = _Live(app[SETTINGS].options or default_options())
    add_route(app.router, "GET", _PATH, show, Operation(answer=SettingsBody))
    add_route(app.router, "POST", _PATH, change, Operation(body=SettingsUpdate, answer=SettingsUpdated, errors=(409,)))


async def show(http: web.Request) -> web.Response:
    """Every setting of this node, and who said so."""
    options = http.app[_LIVE].options
    values = {each.option.key: shown_value(each) for each in options}
    flat: dict[str, Any] = {name: values[key] for name, key in LOCALAI_NAMES.items() if key in values}
    return json_response(SettingsBody(**flat, options=[_option_body(each) for each in options]))


async def change(http: web.Request) -> web.Response:
    """Change settings that can change while the node runs; all that are named, or none."""
    update = decode_body(await http.read(), dict[str, Any])
    live = http.app[_LIVE]
    options = updated(live.options, update)
    if update:
        live.options = options
        http.app[DISPATCH].change_residency(*rules_of(options))
        _LOG.info("settings_changed", names=sorted(update))
    return json_response(SettingsUpdated())


def _option_body(each: EffectiveOption) -> OptionBody:
    option = each.option
    return OptionBody(option.key, option.flag, shown_value(each), each.source, option.key in CHANGEABLE)
