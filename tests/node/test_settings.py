from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path, PurePosixPath

import pytest

from localai.mesh.ids import NetworkId
from localai.mesh.network_token import NetworkToken, new_network_token, parse_network_token
from localai.mesh.secrets import Secret
from localai.node.fetch_rules import parse_networks
from localai.node.option_table import FEDERATED, OPTIONS, RUN, options_of
from localai.node.option_values import Address, Places
from localai.node.options import UsageError, Values, resolve
from localai.node.residency import ResidencyRules
from localai.node.settings import (
    InstallSettings,
    LogSettings,
    ProtectionSettings,
    Settings,
    SwarmSettings,
    build_entry_settings,
    build_log_settings,
    build_settings,
    build_swarm_settings,
    log_choices,
    token_secrets,
    wants_swarm,
)

PLACES = Places(cwd=PurePosixPath("/base"), home=PurePosixPath("/home/ann"))


TOKEN = new_network_token(lambda length: "k" * length)
PEER = "/ip4/192.168.1.7/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def values_of(command: str, **given: str) -> Values:
    return resolve(options_of(command), {key: [text] for key, text in given.items()}, {}, PLACES)


def settings(positionals: tuple[str, ...] = (), **given: str) -> Settings:
    values = resolve(options_of(RUN), {key: [text] for key, text in given.items()}, {}, PLACES)
    return build_settings(values, positionals, LogSettings())


def test_defaults() -> None:
    assert settings() == Settings(
        address=Address("127.0.0.1", 8080), models_path=Path("/base/models"), data_path=Path("/base/data")
    )
    assert settings().upload_limit_bytes == 15_000_000


def test_a_database_elsewhere() -> None:
    url = "postgres://ann:hush%21@db/localai"
    built = settings(database_url=url)
    assert built.database_url == Secret(url)
    assert {Secret(url), Secret("hush%21"), Secret("hush!")} <= set(built.secrets)
    assert "hush" not in repr(built)
    assert settings(database_url="").database_url is None
    with pytest.raises(UsageError, match="--database-url must begin with") as caught:
        settings(database_url="mysql://ann:hush@db/x")
    assert "hush" not in caught.value.message


def test_everything_given() -> None:
    built = settings(
        ("c", "a"), models="a,b", address=":1", models_path="/m", data_path="~/d", threads="3", context_size="-1",
        f16="yes", api_keys="k1,k2", upload_limit="0", allowed_hosts="Box.Local,b", allow_anonymous="true",
        show_route="true", disable_mcp="true",
        open_responses_store_ttl="1h30m", ollama_api_root_endpoint="true",
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
        show_route=True,
        responses_ttl_s=5400.0,
        ollama_root=True,
        mcp=False,
    )


def test_protection() -> None:
    assert settings().protection == ProtectionSettings()
    built = settings(
        opaque_errors="yes", cors="1", cors_allow_origins="https://a,http://b:*", disable_csrf="true",
        machine_tag="box-7", allow_media_from="192.168.1.0/24",
    )  # fmt: skip
    assert built.protection == ProtectionSettings(
        opaque_errors=True,
        cors=True,
        cors_origins=("https://a", "http://b:*"),
        checks_sites=False,
        machine_tag="box-7",
        media_networks=parse_networks(["192.168.1.0/24"]),
    )


def test_exempted_endpoints_count_only_when_they_are_on() -> None:
    assert settings(http_get_exempted_endpoints="^/a").protection.exempt_routes == ()
    on = settings(disable_api_key_requirement_for_http_get="yes").protection.exempt_routes
    assert {"^/$", "^/talk/?$", "^/app(/.*)?$", "^/swagger.*$"} < set(on)
    both = settings(disable_api_key_requirement_for_http_get="yes", http_get_exempted_endpoints="^/a,^/b")
    assert both.protection.exempt_routes == ("^/a", "^/b")


def test_what_cannot_protect_is_refused() -> None:
    with pytest.raises(UsageError, match="--allow-media-from needs networks"):
        settings(allow_media_from="nas")
    with pytest.raises(UsageError, match="--machine-tag needs"):
        settings(machine_tag="a\r\nb")


def test_watchdogs_count_only_when_they_are_on() -> None:
    assert settings(watchdog_idle_timeout="1m", watchdog_busy_timeout="2m").residency == ResidencyRules()
    built = settings(
        enable_watchdog_idle="yes", watchdog_idle_timeout="1m", enable_watchdog_busy="yes", watchdog_interval="2s"
    )
    assert built.residency == ResidencyRules(idle_s=60.0, busy_s=300.0)
    assert built.watchdog_interval_s == 2.0
    with pytest.raises(UsageError, match=r"--watchdog-interval must be at least 0\.1"):
        settings(watchdog_interval="1ms")


def test_everything_told_about_residency() -> None:
    assert settings(
        max_active_backends="3", single_active_backend="yes", enable_memory_reclaimer="yes",
        memory_reclaimer_threshold="0.5", force_eviction_when_busy="yes", size_aware_eviction="yes",
        lru_eviction_max_retries="4", lru_eviction_retry_interval="2s",
    ).residency == ResidencyRules(
        max_active=3, memory_threshold=0.5, force_when_busy=True, largest_first=True, max_retries=4,
        retry_interval_s=2.0,
    )  # fmt: skip


def test_old_and_odd_ways_to_say_a_limit() -> None:
    assert settings(single_active_backend="yes").residency.max_active == 1
    assert settings(lru_eviction_max_retries="-1").residency.max_retries == 30
    for threshold in ("0", "1.1"):
        with pytest.raises(UsageError, match="must be above 0 and at most 1"):
            settings(memory_reclaimer_threshold=threshold)


def test_where_models_come_from() -> None:
    built = settings(
        models_config_file="all.yaml", load_to_memory="a,b,a", galleries="[]", autoload_galleries="yes",
        preload_models="[1]", preload_models_config="~/p.yaml", disable_predownload_scan="yes",
    )  # fmt: skip
    assert built.models_config_file == Path("/base/all.yaml")
    assert built.load_to_memory == ("a", "b")
    assert built.install == InstallSettings(
        galleries="[]", autoload=True, preload="[1]", preload_file=Path("/home/ann/p.yaml"), scan=False
    )


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({}, 4),
        ({"slots": "8"}, 8),
        ({"parallel_requests": "true"}, 4),
        ({"parallel_requests": "false"}, 1),
        ({"parallel_requests": "false", "slots": "8"}, 1),
    ],
)
def test_one_request_at_a_time_only_if_that_is_asked_for(given: dict[str, str], slots: int) -> None:
    assert settings((), **given).slots == slots


@pytest.mark.parametrize(
    ("environ", "slots"),
    [
        ({"LLAMACPP_PARALLEL": "2"}, 2),
        ({"LLAMACPP_PARALLEL": "", "PARALLEL_REQUESTS": ""}, 4),
        ({"LLAMACPP_PARALLEL": "2", "PARALLEL_REQUESTS": "0"}, 1),
        ({"LOCALAI_PARALLEL_REQUESTS": "true", "PARALLEL_REQUESTS": "false"}, 4),
    ],
)
def test_slots_of_the_environment(environ: dict[str, str], slots: int) -> None:
    values = resolve(options_of(RUN), {}, environ, PLACES)
    assert build_settings(values, (), LogSettings()).slots == slots


def test_what_backends_are_to_be_ready() -> None:
    built = settings(external_backends="vllm,llama-cpp,vllm", preload_backend_only="yes")
    assert built.external_backends == ("vllm", "llama-cpp")
    assert built.preload_only
    with pytest.raises(UsageError, match='--external-grpc-backends cannot be used yet, and "mine" would not answer'):
        settings(external_grpc_backends="mine:127.0.0.1:9000")


def test_settings_show_no_key_and_do_not_change() -> None:
    built = settings(api_keys="very-private")
    assert "very-private" not in repr(built)
    with pytest.raises(FrozenInstanceError):
        built.threads = 4  # type: ignore[misc]  # that is the test


def test_a_member_serves_and_finds_others_unless_told_otherwise() -> None:
    assert build_swarm_settings(values_of(RUN), TOKEN, token_is_new=True) == SwarmSettings(
        token=TOKEN,
        network_id=NetworkId(""),
        serve=True,
        federated=False,
        listen=("/ip4/0.0.0.0/tcp/0",),
        bootstrap_peers=(),
        peers=(),
        mdns=True,
        random_worker=False,
        target_worker="",
        token_is_new=True,
    )


def test_everything_told_to_a_member() -> None:
    values = values_of(
        RUN, p2p_network_id="home", no_serve="yes", federated="yes", p2p_listen="/ip6/::/tcp/1,/ip4/0.0.0.0/tcp/1",
        p2p_bootstrap_peers=PEER, p2p_peers=f"{PEER},{PEER}", p2p_disable_mdns="true",
    )  # fmt: skip
    built = build_swarm_settings(values, TOKEN)
    assert built == SwarmSettings(
        token=TOKEN,
        network_id=NetworkId("home"),
        serve=False,
        federated=True,
        listen=("/ip6/::/tcp/1", "/ip4/0.0.0.0/tcp/1"),
        bootstrap_peers=(PEER,),
        peers=(PEER, PEER),
        mdns=False,
        random_worker=False,
        target_worker="",
        token_is_new=False,
    )
    assert build_settings(values, (), LogSettings(), built).swarm == built


def test_an_entry_serves_nobody_and_has_no_models() -> None:
    values = values_of(FEDERATED, random_worker="yes", target_worker="Xk3", api_keys="key", data_path="/d")
    swarm = build_swarm_settings(values, TOKEN)
    assert (swarm.serve, swarm.federated, swarm.random_worker, swarm.target_worker) == (False, False, True, "Xk3")
    built = build_entry_settings(values, LogSettings(), swarm)
    assert built == Settings(
        address=Address("127.0.0.1", 8080),
        models_path=Path("/d/models"),
        data_path=Path("/d"),
        api_keys=(Secret("key"),),
        swarm=swarm,
        entry_only=True,
    )


@pytest.mark.parametrize(
    ("given", "wanted"), [({}, False), ({"p2p": "true"}, True), ({"federated": "true"}, True), ({"p2p": "no"}, False)]
)
def test_a_swarm_is_wanted_by_two_options(given: dict[str, str], wanted: bool) -> None:
    assert wants_swarm(values_of(RUN, **given)) is wanted


def broken_into_lines(token: NetworkToken) -> NetworkToken:
    text = token.text.reveal()
    return parse_network_token(f"{text[:76]}\n{text[76:]}")


def test_the_secrets_are_those_of_the_keys_and_of_every_form_of_the_token() -> None:
    token = broken_into_lines(TOKEN)
    swarm = build_swarm_settings(values_of(RUN), token)
    built = build_settings(values_of(RUN, api_keys="key"), (), LogSettings(), swarm)
    assert built.secrets == (Secret("key"), *token_secrets(token))
    assert {token.text, TOKEN.text, token.room, token.mdns, token.dht.key, token.crypto.key} <= set(built.secrets)
    assert settings(api_keys="key").secrets == (Secret("key"),)
    assert TOKEN.text.reveal() not in repr(built)
    assert "kkkk" not in repr(built)


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
