from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from localai.api.app import answer_headers, host_names, listening_addresses, make_app
from localai.mesh.errors import SetupError
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import ProtectionSettings, Settings
from localai.node.supervisor import ModelSupervisor


def settings(host: str, *keys: str, allow_anonymous: bool = False, allowed: tuple[str, ...] = ()) -> Settings:
    return Settings(
        Address(host, 8080),
        Path("models"),
        Path("data"),
        api_keys=tuple(map(Secret, keys)),
        allow_anonymous=allow_anonymous,
        allowed_hosts=allowed,
    )


def dispatch() -> Dispatch:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is asked")

    return Dispatch(supervise, Catalog())


def test_a_public_address_without_keys_is_refused_before_anything_is_served() -> None:
    with pytest.raises(SetupError, match="LOCALAI_API_KEY"):
        make_app(dispatch(), settings("8.8.8.8"))
    make_app(dispatch(), settings("8.8.8.8", "key"))
    make_app(dispatch(), settings("8.8.8.8", allow_anonymous=True))


def test_a_private_address_without_keys_warns() -> None:
    with capture_logs() as logs:
        make_app(dispatch(), settings("192.168.1.2"))
        make_app(dispatch(), settings("127.0.0.1"))
    assert [entry["reach"] for entry in logs if entry["event"] == "open_to_others"] == ["private"]


@pytest.mark.parametrize(
    ("protection", "event"),
    [
        (ProtectionSettings(), None),
        (ProtectionSettings(cors=True, cors_origins=("https://a",)), None),
        (ProtectionSettings(cors=True), "cors_is_off"),
        (ProtectionSettings(cors_origins=("https://a",)), "cors_is_off"),
        (ProtectionSettings(exempt_routes=("^/$", "(")), "exempted_endpoint_ignored"),
    ],
)
def test_half_a_protection_is_named(protection: ProtectionSettings, event: str | None) -> None:
    with capture_logs() as logs:
        make_app(dispatch(), replace(settings("127.0.0.1"), protection=protection))
    assert [entry["event"] for entry in logs] == [event] * (event is not None)


def test_headers_of_every_answer() -> None:
    plain = answer_headers(settings("127.0.0.1"))
    assert plain["X-Content-Type-Options"] == "nosniff"
    tagged = replace(settings("127.0.0.1"), protection=ProtectionSettings(machine_tag="box-7"))
    assert answer_headers(tagged) == {**plain, "Machine-Tag": "box-7"}


@pytest.mark.parametrize("host", ["", "0.0.0.0", "0", "::", "::0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"])
def test_a_wildcard_stands_for_every_interface(host: str) -> None:
    assert "127.0.0.1" in listening_addresses(host)


def test_another_address_stands_for_itself() -> None:
    assert listening_addresses("127.0.0.1") == ["127.0.0.1"]


def test_names_we_answer_to() -> None:
    own = socket.gethostname().lower()
    assert host_names(settings("Box.Lan", allowed=("ai.example",))) == {own, f"{own}.local", "box.lan", "ai.example"}
    assert "" not in host_names(settings(""))
