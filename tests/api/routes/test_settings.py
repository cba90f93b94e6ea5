from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.secrets import Secret
from localai.node.effective_options import EffectiveOption, Source
from localai.node.live_settings import default_options
from localai.node.option_table import FEDERATED, OPTIONS, options_of


def by_name(body: Any) -> dict[str, Any]:
    return {option["name"]: option for option in body["options"]}


async def test_settings_are_shown_with_who_said_them(serve: Any) -> None:
    key = next(option for option in OPTIONS if option.key == "api_keys")
    rest = tuple(each for each in default_options() if each.option is not key)
    options = (EffectiveOption(key, (Secret("hush-hush"),), Source.ENV), *rest)
    async with serve(options=options) as server:
        async with server.http.get(server.url + "/api/settings") as response:
            assert response.status == 200
            assert "hush" not in await response.text()
        _, body = await server.get("/api/settings")
    assert body["watchdog_idle_timeout"] == "900s"
    assert body["max_active_backends"] == 0
    shown = by_name(body)
    assert shown["api_keys"] == {
        "name": "api_keys", "flag": "--api-keys", "value": "***", "source": "env", "changeable": False,
    }  # fmt: skip
    assert (shown["watchdog_interval"]["value"], shown["watchdog_interval"]["changeable"]) == ("0.5s", True)
    assert shown["threads"]["source"] == "default"


async def test_a_change_counts_and_is_shown(serve: Any) -> None:
    async with serve() as server:
        with capture_logs() as logs:
            update = {"max_active_backends": 1, "watchdog_idle_enabled": True, "watchdog_idle_timeout": "1h"}
            assert await server.post("/api/settings", update) == (
                200,
                {"success": True, "message": "Settings updated successfully"},
            )
        assert [entry["names"] for entry in logs if entry["event"] == "settings_changed"] == [sorted(update)]
        assert (server.dispatch.residency.max_active, server.dispatch.residency.idle_s) == (1, 3600.0)
        _, body = await server.get("/api/settings")
        assert (body["max_active_backends"], body["watchdog_idle_timeout"]) == (1, "3600s")
        assert by_name(body)["max_active_backends"]["source"] == "api"
        for model in ("m", "org/other"):
            await server.post("/backend/load", {"model": model})
        _, system = await server.get("/system")
        assert [model["id"] for model in system["loaded_models"]] == ["org/other"]


@pytest.mark.parametrize(
    ("update", "status", "words"),
    [
        ({"threads": 2}, 409, "Start it again with --threads."),
        ({"nothing": 2}, 400, "There is no setting 'nothing'"),
        ({"watchdog_idle_timeout": "x"}, 400, "needs a time"),
        ([], 400, "wrong type"),
    ],
)
async def test_all_of_a_change_or_nothing(serve: Any, update: Any, status: int, words: str) -> None:
    async with serve() as server:
        before = await server.get("/api/settings")
        if isinstance(update, dict):
            update = {"max_active_backends": 5, **update}
        found, body = await server.post("/api/settings", update)
        assert found == status
        assert words in body["error"]
        assert await server.get("/api/settings") == before
        assert server.dispatch.residency.max_active == 0


async def test_no_change_is_none(serve: Any) -> None:
    async with serve() as server:
        assert (await server.post("/api/settings", {}))[0] == 200
        _, body = await server.get("/api/settings")
        assert {option["source"] for option in body["options"]} == {"default"}


async def test_an_entry_has_nothing_to_change(serve: Any) -> None:
    options = tuple(EffectiveOption(option, None, Source.DEFAULT) for option in options_of(FEDERATED))
    async with serve(options=options, entry_only=True) as server:
        _, body = await server.get("/api/settings")
        assert "max_active_backends" not in body
        status, body = await server.post("/api/settings", {"max_active_backends": 1})
        assert status == 409


async def test_it_can_be_switched_off_and_needs_the_key(serve: Any) -> None:
    async with serve(runtime_settings=False) as server:
        assert (await server.get("/api/settings"))[0] == 404
    async with serve(api_keys=(Secret("key"),)) as server:
        assert (await server.get("/api/settings"))[0] == 401
