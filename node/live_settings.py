"""Settings that may change while a node runs: which, and what an update makes of them (pure).

Only those that count in full from the next moment on are among them: what keeps models in memory. They last until the
node ends. Names are those of the option table, and LocalAI's for the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeAlias

from localai.mesh.errors import Conflict, InvalidRequest
from localai.mesh.secrets import MASK
from localai.node.effective_options import EffectiveOption, Source, effective_options
from localai.node.option_table import OPTIONS, RUN, options_of
from localai.node.option_values import Places
from localai.node.options import Kind, Option, UsageError, Values, resolve
from localai.node.residency import ResidencyRules
from localai.node.settings import residency_rules

JsonValue: TypeAlias = bool | int | float | str | list[object] | dict[str, object] | None

LOCALAI_NAMES: dict[str, str] = {
    "watchdog_idle_enabled": "enable_watchdog_idle",
    "watchdog_busy_enabled": "enable_watchdog_busy",
    "watchdog_idle_timeout": "watchdog_idle_timeout",
    "watchdog_busy_timeout": "watchdog_busy_timeout",
    "watchdog_interval": "watchdog_interval",
    "single_backend": "single_active_backend",
    "max_active_backends": "max_active_backends",
    "memory_reclaimer_enabled": "enable_memory_reclaimer",
    "memory_reclaimer_threshold": "memory_reclaimer_threshold",
    "force_eviction_when_busy": "force_eviction_when_busy",
    "size_aware_eviction": "size_aware_eviction",
    "lru_eviction_max_retries": "lru_eviction_max_retries",
    "lru_eviction_retry_interval": "lru_eviction_retry_interval",
}
"""LocalAI's name of a setting -> key of the option. Exactly these may change."""
CHANGEABLE = frozenset(LOCALAI_NAMES.values())
_PASSWORD = re.compile(r"://[^/@\s\"]*@")
_NOWHERE = Places(PurePosixPath("/"), PurePosixPath("/"))
_JSON_KINDS: dict[Kind, tuple[type, ...]] = {
    Kind.BOOL: (bool,),
    Kind.INT: (int,),
    Kind.FLOAT: (int, float),
    Kind.DURATION: (str,),
}
_MEANINGS = {
    Kind.BOOL: "true or false",
    Kind.INT: "a whole number",
    Kind.FLOAT: "a number",
    Kind.DURATION: 'like "15m"',
}


def updated(options: Sequence[EffectiveOption], update: Mapping[str, JsonValue]) -> tuple[EffectiveOption, ...]:
    """The options after a partial update, all of it or nothing. ``options`` are those of ``run``.

    Raises:
        InvalidRequest: there is no such setting, or a value is wrong; ``param`` names it.
        Conflict: a setting cannot change while the node runs.
    """
    texts: dict[str, str] = {}
    for name, value in update.items():
        option = _changeable(name, options)
        if option.key in texts:
            message = f"'{name}' is given twice, by two of its names. Give it once."
            raise InvalidRequest(message, param=name)
        texts[option.key] = _text(name, option, value)
    found = tuple(_with(each, texts[each.option.key]) if each.option.key in texts else each for each in options)
    rules_of(found)
    return found


def rules_of(options: Sequence[EffectiveOption]) -> tuple[ResidencyRules, float]:
    """Which models stay in memory by these options, and the seconds between two looks at it.

    Raises:
        InvalidRequest: a value is out of range.
    """
    values: Values = {each.option.key: each.value for each in options}
    try:
        rules = residency_rules(values)
    except UsageError as error:
        raise _wrong_value(error, "memory_reclaimer_threshold") from None
    interval_s = values["watchdog_interval"]
    assert isinstance(interval_s, float)  # by its row
    return rules, interval_s


def default_options() -> tuple[EffectiveOption, ...]:
    """The options of ``run`` where nobody says anything."""
    options = options_of(RUN)
    return effective_options(options, resolve(options, {}, {}, _NOWHERE), {}, {}, frozenset())


def shown_value(effective: EffectiveOption) -> JsonValue:
    """A value for people and programs: times as ``900s``; of secrets, those inside addresses too, only that they are
    there."""
    option, value = effective.option, effective.value
    if option.secret:
        return MASK if value else None
    if option.kind is Kind.DURATION and isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return [_without_password(str(item)) for item in value]
    return _without_password(str(value))


def _without_password(text: str) -> str:
    return _PASSWORD.sub(f"://{MASK}@", text)


def _changeable(name: str, options: Sequence[EffectiveOption]) -> Option:
    key = LOCALAI_NAMES.get(name, name.removeprefix("--").replace("-", "_"))
    here = {each.option.key: each.option for each in options}
    if key in CHANGEABLE and key in here:
        return here[key]
    fixed = next((option for option in OPTIONS if option.key == key), None)
    if fixed is None:
        known = ", ".join(LOCALAI_NAMES)
        message = f"There is no setting '{name[:100]}'. Those that can change are: {known}."
        raise InvalidRequest(message, code="unknown_setting", param=name[:100])
    message = f"'{name}' cannot change while the node runs. Start it again with {fixed.flag}."
    raise Conflict(message, code="setting_is_fixed", param=name)


def _text(name: str, option: Option, value: JsonValue) -> str:
    """The value as somebody would type it."""
    kinds = _JSON_KINDS[option.kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidRequest(f"'{name}' must be {_MEANINGS[option.kind]}. Correct it.", code="invalid_type", param=name)
    return str(value).lower()


def _with(effective: EffectiveOption, text: str) -> EffectiveOption:
    option = effective.option
    try:
        value = resolve([option], {option.key: [text]}, {}, _NOWHERE)[option.key]
    except UsageError as error:
        raise _wrong_value(error, option.key) from None
    return replace(effective, value=value, source=Source.API)


def _wrong_value(error: UsageError, key: str) -> InvalidRequest:
    return InvalidRequest(f"{error.message}. Correct it.", param=key)
