"""Puts a node together and runs it until it is told to stop (shell).

Order of the start: folders, address, port, HTTP (``/readyz`` says *starting*), models, ready. Whatever can fail
quickly fails before anything is downloaded. Order of the end: no new connections, a grace time for running answers,
errors for the rest, workers, exit.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import structlog
import uvloop
from aiohttp import web

from localai.mesh.errors import LocalAIError, SetupError
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch, RoutingRules
from localai.node.features import BACKEND_FEATURES, EVERYTHING
from localai.node.gallery.progress import shown_install
from localai.node.gallery.startup import install_missing
from localai.node.listening import listen
from localai.node.loading import check_backend, load_frame, missing_backends
from localai.node.local_models import Resources
from localai.node.model_config import ModelConfig
from localai.node.models_folder import MAX_ENTRIES, check_model_file, create_models_folder, read_catalog
from localai.node.models_watch import ModelsWatch
from localai.node.option_values import Address
from localai.node.peers.joining import join_swarm
from localai.node.peers.record import NodeRecord
from localai.node.settings import Settings, SwarmSettings
from localai.node.sharing.frames import PROTOCOL as FILES
from localai.node.sharing.members_first import MembersFirst
from localai.node.sharing.sharing import Sharing
from localai.node.sources.planning import source_rules
from localai.node.supervisor import ModelSupervisor
from localai.node.token_qr import invitation
from localai.node.version import program_version
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.process import BACKENDS, spawn_worker

_LOG = structlog.get_logger()

GRACE_S = 4.0
"""What running answers get after SIGTERM. With stopping the workers the whole end takes less than 10 s."""

MakeRunner: TypeAlias = Callable[[Dispatch, Settings], web.AppRunner]


def run_node(settings: Settings, make_runner: MakeRunner) -> int:
    """Run one node until SIGINT or SIGTERM; get the exit code.

    Raises:
        SetupError: it cannot start.
    """
    if settings.preload_only:  # nobody listens, so nobody has to be kept out
        settings = replace(settings, address=Address("127.0.0.1", 0))
    if not settings.entry_only:
        create_models_folder(settings.models_path)
    with data_folder(settings.data_path):
        sockets = [] if settings.preload_only else listen(settings.address)
        return uvloop.run(_serve(settings, make_runner, sockets))


@contextmanager
def data_folder(path: Path) -> Iterator[None]:
    """The data folder, made when missing and held by this node alone.

    Raises:
        SetupError: it cannot be made or written to, or another node has it.
    """
    advice = "Correct it, or give another one with --data-path."
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown reason"
        message = f"The data folder {path} cannot be used: {reason}. {advice}"
        raise SetupError(message, code="data_path", detail=repr(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = f"Another node uses the data folder {path}. Stop it, or give this one its own with --data-path."
        raise SetupError(message, code="data_path_in_use") from error
    else:
        yield
    finally:
        os.close(descriptor)


async def _serve(settings: Settings, make_runner: MakeRunner, sockets: list[socket.socket]) -> int:
    stopped = _stop_on_signals()
    dispatch = Dispatch(
        _supervise_with(settings),
        rules=_rules(settings),
        program=f"localai-mesh {program_version()}",
        resources=Resources(
            settings.residency,
            _size_with(settings),
            settings.slots,
            lambda config: BACKEND_FEATURES.get(config.backend, EVERYTHING),
        ),
    )
    runner = make_runner(dispatch, settings)
    await runner.setup()
    try:
        for listener in sockets:
            await web.SockSite(runner, listener).start()
        port = sockets[0].getsockname()[1] if sockets else 0
        watching = asyncio.create_task(dispatch.keep_watch(settings.watchdog_interval_s))
        sharing = Sharing(settings.models_path, settings.data_path, lambda: dispatch.is_busy, dispatch.announce)
        await _until(stopped, _live(dispatch, sharing, settings, port))
        watching.cancel()
    finally:
        await _shut_down(dispatch, runner)
    return 0


async def _until(stopped: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Work until the signal; what fails before ends the node."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
        await stopping
    else:
        working.cancel()
        await asyncio.wait({working}, timeout=2 * GRACE_S)  # a mesh process that is just starting takes its time


async def _live(dispatch: Dispatch, sharing: Sharing, settings: Settings, port: int) -> None:
    """Join the swarm and install what is missing, side by side; then share what is here."""
    if settings.swarm is None:
        await _open(dispatch, settings, port)
        return
    tasks = [
        asyncio.create_task(_open(dispatch, settings, port)),
        asyncio.create_task(_join(dispatch, sharing, settings, settings.swarm)),
    ]
    try:
        if settings.swarm.serve and not settings.entry_only:
            dispatch.on_catalog = sharing.refresh_soon
            dispatch.content_of = sharing.content_of
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _join(dispatch: Dispatch, sharing: Sharing, settings: Settings, swarm: SwarmSettings) -> None:
    if swarm.token_is_new:
        columns = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
        print(invitation(swarm.token, swarm.network_id, columns=columns), flush=True)
    program = f"localai-mesh {program_version()}"

    def describe() -> NodeRecord:
        return msgspec.structs.replace(dispatch.record(), files=sharing.digests() if swarm.serve else ())

    handlers = {FILES: sharing.serve} if swarm.serve else {}
    dispatch.connect(
        await join_swarm(swarm, settings.data_path, dispatch, describe, program, settings.log.level, handlers)
    )


def _stop_on_signals() -> asyncio.Event:
    """An event set by the first SIGINT or SIGTERM; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop(name: str) -> None:
        if stopped.is_set():
            _LOG.warning("stopped_at_once", signal=name)
            os._exit(1)
        _LOG.info("stopping", signal=name, grace_s=GRACE_S)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    return stopped


async def _open(dispatch: Dispatch, settings: Settings, port: int) -> None:
    """Install what is missing, then take requests, and look after the models until cancelled."""
    if settings.entry_only:
        dispatch.open(Catalog())
        print(welcome_entry(settings, port), flush=True)
        return
    for backend in missing_backends(settings.external_backends, BACKENDS):
        _LOG.error("backend_not_installed", backend=backend, available=sorted(BACKENDS))
    await _install_missing(dispatch, settings)
    catalog = read_catalog(settings.models_path, settings.models_config_file)
    for problem in catalog.problems:
        _LOG.warning("definition_problem", source=problem.source, problem=problem.message)
    dispatch.open(catalog)
    for model in settings.load_to_memory:
        try:
            await dispatch.preload(model)
        except LocalAIError as error:
            _LOG.error("model_not_preloaded", model=model, error=error.message)
    _LOG.info("ready", address=str(settings.address), models=[config.name for config in catalog.models])
    print(welcome(settings, catalog, port), flush=True)
    await ModelsWatch(settings.models_path, settings.models_config_file, dispatch).keep_watch()


async def _install_missing(dispatch: Dispatch, settings: Settings) -> None:
    """What was asked for and is not there; without any wish, and with an empty folder, the embedded default."""
    rules = source_rules(os.environ, scan=settings.install.scan)
    if settings.swarm is not None:
        rules = replace(rules, from_members=MembersFirst(lambda: dispatch.peers).get)
    with shown_install() as show:
        await install_missing(settings, show, os.environ, rules)


async def _shut_down(dispatch: Dispatch, runner: web.AppRunner) -> None:
    for site in list(runner.sites):
        await site.stop()
    await dispatch.aclose(GRACE_S)
    await runner.cleanup()
    _LOG.info("stopped")


def welcome(settings: Settings, catalog: Catalog, port: int) -> str:
    """What a user sees once the node is ready: where it is and what to type."""
    if settings.preload_only:
        names = ", ".join(config.name for config in catalog.models) or "no model"
        return f"localai is ready without HTTP, as --preload-backend-only asks for. It has {names}."
    host = settings.address.host
    url = f"http://{_shown_host(host)}:{port}"
    if not catalog.models:
        advice = f"Put a .gguf file into {settings.models_path}: it is found at once."
        return f"localai is ready on {url} without a model. {advice}"
    key = ' -H "Authorization: Bearer $LOCALAI_API_KEY"' if settings.api_keys else ""
    message = {"model": catalog.models[0].name, "messages": [{"role": "user", "content": "Hello!"}]}
    body = json.dumps(message, ensure_ascii=False)
    return (
        f"\nlocalai is ready: {url}\n\n"
        f"  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\\n"
        f"    -d {shlex.quote(body)}\n"
    )


def welcome_entry(settings: Settings, port: int) -> str:
    """What a user of ``localai federated`` sees."""
    url = f"http://{_shown_host(settings.address.host)}:{port}"
    return (
        f"\nlocalai is ready: {url}\n\n"
        f"  It has no models of its own: the nodes of the swarm answer. See which: curl {url}/v1/models\n"
    )


def _rules(settings: Settings) -> RoutingRules:
    swarm = settings.swarm
    if swarm is None:
        return RoutingRules()
    return RoutingRules(serves=swarm.serve, at_random=swarm.random_worker, target=swarm.target_worker)


def _shown_host(host: str) -> str:
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _size_with(settings: Settings) -> Callable[[ModelConfig], int]:
    known: dict[str, int] = {}

    def size_of(config: ModelConfig) -> int:
        if not known.get(config.model_file) and len(known) < MAX_ENTRIES:  # a missing file may come later
            with suppress(OSError):
                known[config.model_file] = Path(settings.models_path, config.model_file).stat().st_size
        return known.get(config.model_file, 0)

    return size_of


def _supervise_with(settings: Settings) -> Callable[[ModelConfig], ModelSupervisor]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

    def supervise(config: ModelConfig) -> ModelSupervisor:
        check_backend(config, BACKENDS)
        load = load_frame(config, settings, cores)

        async def spawn() -> WorkerConnection:
            check_model_file(settings.models_path, config)
            return await spawn_worker(config.backend, config.name, load.threads)

        return ModelSupervisor(config.name, load, spawn)

    return supervise
