from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path, PurePosixPath

import pytest

from localai.mesh.secrets import Secret
from localai.node.option_values import Address, Places
from localai.node.options import OPTIONS, RUN, UsageError, options_of, resolve
from localai.node.settings import LogSettings, Settings, build_log_settings, build_settings, log_choices

PLACES = Places(cwd=PurePosixPath("/base"), home=PurePosixPath("/home/ann"))


def settings(positionals: tuple[str, ...] = (), **given: str) -> Settings:
    values = resolve(options_of(RUN), {key: [text] for key, text in given.items()}, {}, PLACES)
    return build_settings(values, positionals, LogSettings())


def test_defaults() -> None:
    assert settings() == Settings(
        address=Address("127.0.0.1", 8080), models_path=Path("/base/models"), data_path=Path("/base/data")
    )
    assert settings().upload_limit_bytes == 15_000_000


def test_everything_given() -> None:
    built = settings(
        ("c", "a"), models="a,b", address=":1", models_path="/m", data_path="~/d", threads="3", context_size="-1",
        f16="yes", api_keys="k1,k2", upload_limit="0", allowed_hosts="Box.Local,b", allow_anonymous="true",
    )  # fmt: skip
    assert built == Settings(
        address=Address("", 1),
        models_path=Path("/m"),
        data_path=Path("/home/ann/d"),
        models=("a", "b", "c"),
        threads=3,
        context_size=-1,
        f16=True,
        api_keys=(Secret("k1"), Secret("k2")),
        upload_limit_bytes=0,
        allowed_hosts=("box.local", "b"),
        allow_anonymous=True,
    )


def test_settings_show_no_key_and_do_not_change() -> None:
    built = settings(api_keys="very-private")
    assert "very-private" not in repr(built)
    with pytest.raises(FrozenInstanceError):
        built.threads = 4  # type: ignore[misc]  # that is the test


@pytest.mark.parametrize("key", ["models_path", "data_path"])
def test_a_directory_cannot_be_switched_off(key: str) -> None:
    with pytest.raises(UsageError, match=f"--{key.replace('_', '-')} must name a directory"):
        settings((), **{key: ""})


@pytest.mark.parametrize(
    ("given", "explicit", "level"),
    [
        ({}, False, "info"),
        ({"debug": "true"}, False, "debug"),
        ({"debug": "true", "log_level": "warn"}, True, "warn"),
        ({"log_level": "trace"}, True, "trace"),
    ],
)
def test_old_debug_counts_only_without_a_level(given: dict[str, str], explicit: bool, level: str) -> None:
    values = resolve(options_of(RUN), {key: [text] for key, text in given.items()}, {}, PLACES)
    assert build_log_settings(values, level_is_explicit=explicit) == LogSettings(level=level)  # type: ignore[arg-type]  # plain str in the table above


def test_the_table_offers_exactly_the_choices_of_the_types() -> None:
    offered = {option.key: option.choices for option in OPTIONS if option.choices}
    assert offered == log_choices()


def test_a_table_that_disagrees_with_the_types_is_noticed() -> None:
    values = {**resolve(options_of(RUN), {}, {}, PLACES), "threads": "many"}
    with pytest.raises(TypeError, match="option threads holds str, not int"):
        build_settings(values, (), LogSettings())
