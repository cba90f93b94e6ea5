from __future__ import annotations

from dataclasses import fields, replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.schemas.settings import SettingsBody, SettingsUpdate
from localai.mesh.errors import Conflict, InvalidRequest, LocalAIError
from localai.mesh.secrets import Secret
from localai.node.effective_options import EffectiveOption, Source
from localai.node.live_settings import (
    CHANGEABLE,
    LOCALAI_NAMES,
    JsonValue,
    default_options,
    rules_of,
    shown_value,
    updated,
)
from localai.node.option_table import OPTIONS
from localai.node.option_values import Address
from localai.node.options import Kind, Option, Value
from localai.node.residency import ResidencyRules

OPTIONS_NOW = default_options()


def by_key(options: tuple[EffectiveOption, ...]) -> dict[str, EffectiveOption]:
    return {each.option.key: each for each in options}


def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    update: dict[str, JsonValue] = {
        "watchdog_idle_enabled": True,
        "watchdog_idle_timeout": "90s",
        "watchdog_interval": "2s",
        "max_active_backends": 3,
        "memory_reclaimer_enabled": True,
        "memory_reclaimer_threshold": 0.5,
    }
    options = updated(OPTIONS_NOW, update)
    assert rules_of(options) == (ResidencyRules(max_active=3, idle_s=90.0, memory_threshold=0.5), 2.0)
    changed = {key for key, each in by_key(options).items() if each.source is Source.API}
    assert changed == {LOCALAI_NAMES[name] for name in update}
    again = updated(options, {"watchdog_idle_enabled": False})
    assert rules_of(again)[0].idle_s is None
    assert by_key(again)["watchdog_idle_timeout"].value == 90.0


def test_every_rule_can_change() -> None:
    changed = updated(
        OPTIONS_NOW,
        {
            "enable-watchdog-idle": True,
            "--enable-watchdog-busy": True,
            "watchdog_idle_timeout": "1s",
            "watchdog_busy_timeout": "2s",
            "single_backend": True,
            "memory_reclaimer_enabled": True,
            "memory_reclaimer_threshold": 1,
            "force_eviction_when_busy": True,
            "size_aware_eviction": True,
            "lru_eviction_max_retries": 7,
            "lru_eviction_retry_interval": "3s",
        },
    )
    rules, _ = rules_of(changed)
    assert rules == ResidencyRules(1, 1.0, 2.0, 1.0, True, True, 7, 3.0)
    assert all(getattr(rules, field.name) != field.default for field in fields(ResidencyRules))


@pytest.mark.parametrize(
    ("update", "kind", "words"),
    [
        ({"nonsense": 1}, InvalidRequest, "There is no setting 'nonsense'"),
        ({"threads": 4}, Conflict, "Start it again with --threads."),
        ({"api_keys": ["k"]}, Conflict, "--api-keys"),
        ({"watchdog_idle_enabled": "yes"}, InvalidRequest, "must be true or false"),
        ({"max_active_backends": True}, InvalidRequest, "must be a whole number"),
        ({"max_active_backends": 1.5}, InvalidRequest, "must be a whole number"),
        ({"max_active_backends": -1}, InvalidRequest, "must be at least 0"),
        ({"memory_reclaimer_threshold": None}, InvalidRequest, "must be a number"),
        ({"memory_reclaimer_threshold": 1.5}, InvalidRequest, "at most 1"),
        ({"watchdog_interval": "1ms"}, InvalidRequest, "must be at least 0.1"),
        ({"watchdog_interval": "soon"}, InvalidRequest, "needs a time with its unit"),
        ({"watchdog_interval": 5}, InvalidRequest, 'must be like "15m"'),
        ({"watchdog_interval": "5s", "watchdog-interval": "6s"}, InvalidRequest, "given twice"),
    ],
)
def test_what_is_wrong_is_named(update: dict[str, JsonValue], kind: type[LocalAIError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        updated(OPTIONS_NOW, {"size_aware_eviction": True, **update})
    assert caught.value.param is not None


def test_a_node_without_models_changes_nothing() -> None:
    with pytest.raises(Conflict, match="--max-active-backends"):
        updated((), {"max_active_backends": 1})


@given(st.dictionaries(st.sampled_from([*LOCALAI_NAMES, "threads", "x"]), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5),
    st.just("15m"), st.lists(st.integers(), max_size=1),
)))  # fmt: skip
def test_any_update_gives_whole_settings_or_our_error(update: dict[str, JsonValue]) -> None:
    try:
        options = updated(OPTIONS_NOW, update)
    except LocalAIError:
        return
    rules_of(options)
    assert [each.option for each in options] == [each.option for each in OPTIONS_NOW]


def test_names_are_those_of_the_bodies() -> None:
    assert SettingsUpdate.__struct_fields__ == tuple(LOCALAI_NAMES)
    assert SettingsBody.__struct_fields__ == (*LOCALAI_NAMES, "options")
    assert {option.key for option in OPTIONS} >= CHANGEABLE


def one(kind: Kind, value: Value, *, secret: bool = False) -> JsonValue:
    return shown_value(EffectiveOption(Option("--x", kind, "Help.", secret=secret), value, Source.ENV))


def test_values_are_shown_as_json_and_secrets_are_not() -> None:
    assert one(Kind.STR, Secret("hush"), secret=True) == "***"
    assert one(Kind.LIST, (Secret("hush"),), secret=True) == "***"
    assert one(Kind.LIST, (), secret=True) is None
    assert one(Kind.STR, None) is None
    assert one(Kind.BOOL, True) is True
    assert one(Kind.DURATION, 90.0) == "90s"
    assert one(Kind.DURATION, 0.5) == "0.5s"
    assert one(Kind.LIST, ("a", "https://ann:hush@box/x")) == ["a", "https://***@box/x"]
    assert one(Kind.STR, '[{"url": "https://hush@box/x"}, {"url": "https://b/@c"}]') == (
        '[{"url": "https://***@box/x"}, {"url": "https://b/@c"}]'
    )
    assert one(Kind.PATH, PurePosixPath("/m")) == "/m"
    assert one(Kind.ADDRESS, Address("h", 1)) == "h:1"


def test_what_is_shown_can_be_sent_back() -> None:
    now = by_key(OPTIONS_NOW)
    update = {name: shown_value(now[key]) for name, key in LOCALAI_NAMES.items()}
    back = updated(OPTIONS_NOW, update)
    assert tuple(replace(each, source=Source.DEFAULT) for each in back) == OPTIONS_NOW
