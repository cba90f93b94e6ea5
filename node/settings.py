"""Frozen settings of one node, built once from the resolved options and passed down (pure).

Nothing below ``cli.py`` reads the environment: what a part needs to know stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, get_args

from localai.mesh.secrets import Secret
from localai.node.database.address import parse_database_url, url_secrets
from localai.node.effective_options import EffectiveOption
from localai.node.fetch_rules import Network, parse_networks
from localai.node.option_values import Address
from localai.node.options import UsageError, Value, Values
from localai.node.residency import ResidencyRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localai.mesh.ids import NetworkId
    from localai.mesh.network_token import NetworkToken

LogLevel: TypeAlias = Literal["error", "warn", "info", "debug", "trace"]
LogFormat: TypeAlias = Literal["default", "text", "json"]

BYTES_PER_MB = 1_000_000
"""What one MB of ``--upload-limit`` means, as in LocalAI: 15 is 15,000,000 bytes."""

DEFAULT_SLOTS = 4
"""Sequences at once. Each has a context of its own in memory, so more cost memory even when idle."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much to log, and in which form."""

    level: LogLevel = "info"
    format: LogFormat = "default"


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """What a member of a swarm is told at start.

    ``serve`` says whether other members may use this node; ``federated`` whether it also answers for LocalAI's
    federation servers. ``listen``, ``bootstrap_peers`` and ``peers`` are multiaddrs that have been checked; the
    latter two end in a peer id. Without ``bootstrap_peers`` the public ones are used. ``target_worker`` is the full
    or short id of the one member that must answer, or empty. ``token_is_new`` means that nobody else has it yet.
    """

    token: NetworkToken
    network_id: NetworkId
    serve: bool
    federated: bool
    listen: tuple[str, ...]
    bootstrap_peers: tuple[str, ...]
    peers: tuple[str, ...]
    mdns: bool
    random_worker: bool
    target_worker: str
    token_is_new: bool


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """Where models may come from, and what is installed at start.

    ``galleries`` is the JSON text of ``--galleries``, ``preload`` that of ``--preload-models``; both may be empty.
    ``autoload`` lets a request start an installation. ``scan`` asks the hub what its scan of the files found.
    """

    galleries: str = ""
    autoload: bool = False
    preload: str = ""
    preload_file: Path | None = None
    scan: bool = True


@dataclass(frozen=True, slots=True)
class ProtectionSettings:
    """What clients may do, and what they are told.

    ``opaque_errors`` tells them the status and nothing else. ``cors_origins`` are origins whose pages may use this
    node, which count only with ``cors``. ``checks_sites`` refuses changes that pages of other sites ask for.
    ``exempt_routes`` are regular expressions of routes that GET may read without a key. ``machine_tag`` is a header
    of every answer, or empty. ``media_networks`` are private networks from which media may be fetched for clients.
    """

    opaque_errors: bool = False
    cors: bool = False
    cors_origins: tuple[str, ...] = ()
    checks_sites: bool = True
    exempt_routes: tuple[str, ...] = ()
    machine_tag: str = ""
    media_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a node is told at start.

    ``models`` are references in the order given, each once. ``threads`` 0 means all cores but one;
    ``context_size`` 0 lets the node choose and -1 asks for the trained maximum; both, like
    ``f16``, are for models that do not say. ``upload_limit_bytes`` 0 means no limit. No ``api_keys``
    means that clients are not checked. ``swarm`` None means that this node is alone. ``entry_only`` is the
    ``federated`` command: no models here, and ``models_path`` is not used. ``show_route`` tells every client
    which node answered, not only local and authenticated ones. ``ollama_root`` answers ``/`` as Ollama does.
    ``models_config_file`` holds definitions that win over those of the models folder. ``load_to_memory`` names models
    to load once the node is ready. ``slots`` is how many requests a model that does not say it answers side by side.
    ``external_backends`` are to be ready at the start. ``preload_only`` means without HTTP. Without ``database_url``
    the database is a file in ``data_path``. ``responses_ttl_s`` is how long responses are kept; 0 means for ever.
    ``metrics`` serves ``/metrics``, ``runtime_settings`` serves ``/api/settings``, which shows ``options``.
    ``mcp`` lets models use the tools of the MCP servers that their definitions name.
    """

    address: Address
    models_path: Path
    data_path: Path
    database_url: Secret[str] | None = None
    models: tuple[str, ...] = ()
    threads: int = 0
    context_size: int = 0
    slots: int = DEFAULT_SLOTS
    f16: bool = False
    api_keys: tuple[Secret[str], ...] = ()
    upload_limit_bytes: int = 15 * BYTES_PER_MB
    allowed_hosts: tuple[str, ...] = ()
    allow_anonymous: bool = False
    protection: ProtectionSettings = ProtectionSettings()
    responses_ttl_s: float = 0.0
    mcp: bool = True
    log: LogSettings = LogSettings()
    swarm: SwarmSettings | None = None
    entry_only: bool = False
    show_route: bool = False
    ollama_root: bool = False
    models_config_file: Path | None = None
    load_to_memory: tuple[str, ...] = ()
    external_backends: tuple[str, ...] = ()
    preload_only: bool = False
    install: InstallSettings = InstallSettings()
    residency: ResidencyRules = field(default_factory=ResidencyRules)
    watchdog_interval_s: float = 0.5
    metrics: bool = True
    runtime_settings: bool = True
    options: tuple[EffectiveOption, ...] = field(default=(), repr=False, compare=False)

    @property
    def secrets(self) -> tuple[Secret[str], ...]:
        """Every text that must not show up in a log."""
        token = token_secrets(self.swarm.token) if self.swarm else ()
        return (*self.api_keys, *token, *url_secrets(self.database_url))


def build_settings(
    values: Values, models: tuple[str, ...], log: LogSettings, swarm: SwarmSettings | None = None
) -> Settings:
    """Settings of ``run``. ``models`` are the positional references; they come after those of ``--models``.

    Raises:
        UsageError: a directory that the node cannot do without is switched off, or a share is none.
    """
    return replace(
        _settings_of_both(values, log, swarm),
        models_path=_directory(values, "models_path"),
        models=tuple(dict.fromkeys((*_texts(values, "models"), *models))),
        threads=_typed(values, "threads", int),
        context_size=_typed(values, "context_size", int),
        slots=_typed(values, "slots", int) if _typed(values, "parallel_requests", bool) else 1,
        f16=_typed(values, "f16", bool),
        mcp=not _typed(values, "disable_mcp", bool),
        models_config_file=_path(values, "models_config_file"),
        load_to_memory=tuple(dict.fromkeys(_texts(values, "load_to_memory"))),
        external_backends=tuple(dict.fromkeys(_texts(values, "external_backends"))),
        preload_only=_typed(values, "preload_backend_only", bool),
        install=InstallSettings(
            galleries=_text(values, "galleries"),
            autoload=_typed(values, "autoload_galleries", bool),
            preload=_text(values, "preload_models"),
            preload_file=_path(values, "preload_models_config"),
            scan=not _typed(values, "disable_predownload_scan", bool),
        ),
        residency=residency_rules(values),
        watchdog_interval_s=_typed(values, "watchdog_interval", float),
    )


def build_entry_settings(values: Values, log: LogSettings, swarm: SwarmSettings) -> Settings:
    """Settings of ``federated``.

    Raises:
        UsageError: the data directory is switched off.
    """
    return replace(_settings_of_both(values, log, swarm), entry_only=True)


def _settings_of_both(values: Values, log: LogSettings, swarm: SwarmSettings | None) -> Settings:
    data_path = _directory(values, "data_path")
    return Settings(
        address=_typed(values, "address", Address),
        models_path=data_path / "models",
        data_path=data_path,
        database_url=_database_url(values),
        api_keys=_secrets(values, "api_keys"),
        upload_limit_bytes=_typed(values, "upload_limit", int) * BYTES_PER_MB,
        allowed_hosts=tuple(host.lower() for host in _texts(values, "allowed_hosts")),
        allow_anonymous=_typed(values, "allow_anonymous", bool),
        protection=_protection(values),
        responses_ttl_s=_typed(values, "open_responses_store_ttl", float),
        log=log,
        swarm=swarm,
        show_route=_typed(values, "show_route", bool),
        metrics=not _typed(values, "disable_metrics_endpoint", bool),
        runtime_settings=not _typed(values, "disable_runtime_settings", bool),
        ollama_root=_typed(values, "ollama_api_root_endpoint", bool),
    )


def _protection(values: Values) -> ProtectionSettings:
    exempts = _typed(values, "disable_api_key_requirement_for_http_get", bool)
    return ProtectionSettings(
        opaque_errors=_typed(values, "opaque_errors", bool),
        cors=_typed(values, "cors", bool),
        cors_origins=_texts(values, "cors_allow_origins"),
        checks_sites=not _typed(values, "disable_csrf", bool),
        exempt_routes=_texts(values, "http_get_exempted_endpoints") if exempts else (),
        machine_tag=_text(values, "machine_tag"),
        media_networks=parse_networks(_texts(values, "allow_media_from")),
    )


def residency_rules(values: Values) -> ResidencyRules:
    """Which models stay in memory.

    Raises:
        UsageError: a share is none.
    """
    threshold = _typed(values, "memory_reclaimer_threshold", float)
    if not 0 < threshold <= 1:
        raise UsageError(f"--memory-reclaimer-threshold must be above 0 and at most 1, not {threshold:g}")
    single = _typed(values, "single_active_backend", bool)
    retries = _typed(values, "lru_eviction_max_retries", int)
    rules = ResidencyRules()
    return ResidencyRules(
        max_active=_typed(values, "max_active_backends", int) or int(single),
        idle_s=_if_on(values, "enable_watchdog_idle", _typed(values, "watchdog_idle_timeout", float)),
        busy_s=_if_on(values, "enable_watchdog_busy", _typed(values, "watchdog_busy_timeout", float)),
        memory_threshold=_if_on(values, "enable_memory_reclaimer", threshold),
        force_when_busy=_typed(values, "force_eviction_when_busy", bool),
        largest_first=_typed(values, "size_aware_eviction", bool),
        max_retries=retries if retries > 0 else rules.max_retries,
        retry_interval_s=_typed(values, "lru_eviction_retry_interval", float),
    )


def _if_on(values: Values, switch: str, value: float) -> float | None:
    return value if _typed(values, switch, bool) else None


def wants_swarm(values: Values) -> bool:
    """Whether ``run`` is told to join a swarm even without a token."""
    return _typed(values, "p2p", bool) or _typed(values, "federated", bool)


def build_swarm_settings(values: Values, token: NetworkToken, *, token_is_new: bool = False) -> SwarmSettings:
    """Settings of the swarm for ``run`` or ``federated``; what a command does not take has its harmless value.

    A node of the ``federated`` command serves nobody: it has no models.
    """
    return SwarmSettings(
        token=token,
        network_id=cast("NetworkId", _text(values, "p2p_network_id")),  # the option table has checked it
        serve="no_serve" in values and not _typed(values, "no_serve", bool),
        federated="federated" in values and _typed(values, "federated", bool),
        listen=_texts(values, "p2p_listen"),
        bootstrap_peers=_texts(values, "p2p_bootstrap_peers"),
        peers=_texts(values, "p2p_peers"),
        mdns=not _typed(values, "p2p_disable_mdns", bool),
        random_worker="random_worker" in values and _typed(values, "random_worker", bool),
        target_worker=_text(values, "target_worker"),
        token_is_new=token_is_new,
    )


def token_secrets(token: NetworkToken) -> tuple[Secret[str], ...]:
    """The texts of a token that must not show up in a log: itself, also without its line ends, and its parts."""
    in_one_line = Secret("".join(token.text.reveal().split()))
    return (token.text, in_one_line, token.room, token.mdns, token.rendezvous, token.dht.key, token.crypto.key)


def build_log_settings(values: Values, *, level_is_explicit: bool) -> LogSettings:
    """Log settings; the old ``--debug`` counts only where no level was given."""
    level = _typed(values, "log_level", str)
    if _typed(values, "debug", bool) and not level_is_explicit:
        level = "debug"
    form = _typed(values, "log_format", str)
    return LogSettings(level=cast("LogLevel", level), format=cast("LogFormat", form))


def log_choices() -> Mapping[str, tuple[str, ...]]:
    """Choices that the table must offer, by option key; a test holds the two together."""
    return {"log_level": get_args(LogLevel), "log_format": get_args(LogFormat)}


def _typed(values: Values, key: str, kind: type[T]) -> T:
    value: Value = values[key]
    if not isinstance(value, kind):
        raise TypeError(f"option {key} holds {type(value).__name__}, not {kind.__name__}")
    return value


def _directory(values: Values, key: str) -> Path:
    if values[key] is None:
        raise UsageError(f"--{key.replace('_', '-')} must name a directory, it cannot be empty")
    return Path(_typed(values, key, PurePath))


def _database_url(values: Values) -> Secret[str] | None:
    if not values["database_url"]:
        return None
    url: Secret[str] = _typed(values, "database_url", Secret)
    try:
        parse_database_url(url)
    except ValueError as error:
        raise UsageError(f"--database-url {error}") from None
    return url


def _path(values: Values, key: str) -> Path | None:
    return None if values[key] is None else Path(_typed(values, key, PurePath))


def _text(values: Values, key: str) -> str:
    return "" if values.get(key) is None else _typed(values, key, str)


def _texts(values: Values, key: str) -> tuple[str, ...]:
    return tuple(item for item in _typed(values, key, tuple) if isinstance(item, str))


def _secrets(values: Values, key: str) -> tuple[Secret[str], ...]:
    return tuple(item for item in _typed(values, key, tuple) if isinstance(item, Secret))
