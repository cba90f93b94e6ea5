"""Putting a node together: what can be seen without a process of its own. The rest is in tests/e2e."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.mesh.ids import NetworkId
from localai.mesh.network_token import ALPHABET, new_network_token
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.dispatch import RoutingRules
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.serve import _rules, data_folder, welcome, welcome_entry
from localai.node.settings import Settings, SwarmSettings

SETTINGS = Settings(Address("127.0.0.1", 0), Path("models"), Path("data"))
CATALOG = Catalog((ModelConfig("it's", "m.gguf"),))


def test_the_data_folder_is_made_for_its_owner_and_held(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    with data_folder(folder):
        assert folder.stat().st_mode & 0o777 == 0o750
        with pytest.raises(SetupError, match="Another node") as caught, data_folder(folder):
            pytest.fail("two nodes have it")
        assert caught.value.code == "data_path_in_use"
    with data_folder(folder):
        pass


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="--data-path"), data_folder(tmp_path / "file" / "data"):
        pytest.fail("it was made")


def test_the_welcome_can_be_pasted_into_a_shell() -> None:
    text = welcome(SETTINGS, CATALOG, 8080)
    assert "localai is ready: http://127.0.0.1:8080\n" in text
    body = shlex.split(text)[-1]
    assert json.loads(body)["model"] == "it's"
    assert "Authorization" not in text


def test_the_welcome_asks_for_a_key_without_showing_it() -> None:
    text = welcome(replace(SETTINGS, api_keys=(Secret("hush"),)), CATALOG, 8080)
    assert "$LOCALAI_API_KEY" in text
    assert "hush" not in text


@pytest.mark.parametrize(
    ("host", "shown"), [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("box.lan", "box.lan")]
)
def test_the_welcome_shows_an_address_that_works(host: str, shown: str) -> None:
    text = welcome(replace(SETTINGS, address=Address(host, 0)), CATALOG, 9)
    assert f"http://{shown}:9" in text


def test_without_a_model_the_welcome_says_what_to_do() -> None:
    assert ".gguf" in welcome(SETTINGS, Catalog(), 8080)


def test_without_http_the_welcome_names_what_is_loaded() -> None:
    silent = replace(SETTINGS, preload_only=True)
    assert "without HTTP" in welcome(silent, CATALOG, 0)
    assert "curl" not in welcome(silent, CATALOG, 0)


def test_an_entry_node_says_where_it_is_and_that_others_answer() -> None:
    text = welcome_entry(replace(SETTINGS, address=Address("::", 0)), 8080)
    assert "localai is ready: http://127.0.0.1:8080\n" in text
    assert "curl http://127.0.0.1:8080/v1/models" in text
    assert "no models of its own" in text


def test_the_settings_of_the_swarm_are_the_rules_of_routing() -> None:
    assert _rules(SETTINGS) == RoutingRules()
    swarm = SwarmSettings(
        token=new_network_token(lambda length: (ALPHABET * length)[:length]),
        network_id=NetworkId(""),
        serve=False,
        federated=False,
        listen=(),
        bootstrap_peers=(),
        peers=(),
        mdns=False,
        random_worker=True,
        target_worker="abcd1234",
        token_is_new=False,
    )
    assert _rules(replace(SETTINGS, swarm=swarm)) == RoutingRules(serves=False, at_random=True, target="abcd1234")
