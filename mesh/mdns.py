"""Finding nodes on the LAN by mDNS under the network token's tag (shell).

zeroconf does the packets, in an event loop in a thread of its own; everything here runs there, also ``on_found``. Two
things are done by hand because zeroconf takes service types of other shapes only: the listening, by watching all TXT
records that arrive, and the questions.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import structlog
from zeroconf import (  # type: ignore[attr-defined]  # the first three are there, but not named as exports
    DNSOutgoing,
    DNSQuestion,
    DNSText,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)

from localai.mesh.errors import SetupError
from localai.mesh.ids import PeerId
from localai.mesh.local_addresses import dialable_addresses, multicast_interfaces
from localai.mesh.mdns_records import (
    INSTANCE_CHARS,
    Sightings,
    announced_hosts,
    announced_port,
    service_type,
    txt_from_addresses,
)

_LOG = structlog.get_logger()

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Questions go out at once, after 1, 2, 4 s and so on, then every minute."""
OnFound = Callable[[PeerId, tuple[str, ...]], None]
_INSTANCE_ALPHABET = string.ascii_lowercase + string.digits
_FLAGS_QUERY = 0
_TYPE_PTR = 12
_CLASS_IN = 1


class Mdns:
    """Announces this node and reports others, between ``start`` and ``close``.

    ``addresses`` are multiaddrs without their ``/p2p`` end, best first; without one that can be used by others this
    node only listens. ``on_found`` gets a peer id and its addresses in the same form, when a peer is first seen, when
    they change, after it went and came back, and about once a minute as long as it announces itself. It is called in
    another thread, must return at once, and its exceptions are logged. Nothing of what it gets is verified.
    """

    def __init__(self, tag: str, peer_id: PeerId, addresses: Sequence[str], on_found: OnFound) -> None:
        self._tag = tag
        self._peer_id = peer_id
        self._addresses = tuple(addresses)
        self._on_found = on_found
        self._zeroconf: Zeroconf | None = None
        self._work: set[Future[None]] = set()
        self._announced: tuple[ServiceInfo, Awaitable[object]] | None = None
        self._changing = asyncio.Lock()

    def start(self) -> None:
        """Announce, and look for others, from now on. Interfaces that come up later are not used.

        Raises:
            SetupError: no interface can do multicast, or the tag cannot be announced.
        """
        service = service_type(self._tag)
        interfaces = multicast_interfaces()
        try:
            if not interfaces:
                raise OSError("no interface")
            zeroconf = Zeroconf(interfaces=list(interfaces), use_asyncio=False)
        except (OSError, RuntimeError) as error:
            raise SetupError(
                "This node cannot be found on the LAN: no interface for multicast. Use --p2p-peers.",
                code="mdns_interface",
                detail=repr(error),
            ) from error
        self._zeroconf = zeroconf
        self._submit(self._ask(zeroconf, service))
        self._submit(self._announce(zeroconf, service, self._addresses))

    def update_addresses(self, addresses: Sequence[str]) -> None:
        """Announce these from now on. Returns at once; does nothing when they are the same, or after ``close``."""
        if self._addresses != tuple(addresses):
            self._addresses = tuple(addresses)
            if self._zeroconf:
                self._submit(self._announce(self._zeroconf, service_type(self._tag), self._addresses))

    def close(self) -> None:
        """Say goodbye and end; takes about half a second. No thread is left, and ``on_found`` is not called again."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf:
            for work in tuple(self._work):
                work.cancel()
            zeroconf.close()

    def _submit(self, coroutine: Coroutine[Any, Any, None]) -> None:
        assert self._zeroconf is not None
        assert self._zeroconf.loop is not None
        work = asyncio.run_coroutine_threadsafe(coroutine, self._zeroconf.loop)
        self._work.add(work)
        work.add_done_callback(self._ended)

    def _ended(self, work: Future[None]) -> None:
        self._work.discard(work)
        if not work.cancelled() and (error := work.exception()):
            _LOG.error("mdns_failed", error=repr(error)[:300])

    async def _ask(self, zeroconf: Zeroconf, service: str) -> None:
        await zeroconf.async_wait_for_start()
        zeroconf.async_add_listener(_Listener(service, Sightings(self._peer_id), self._on_found), None)
        pause = FIRST_PAUSE_S
        while True:
            question = DNSOutgoing(_FLAGS_QUERY)
            question.add_question(DNSQuestion(service, _TYPE_PTR, _CLASS_IN))
            zeroconf.async_send(question)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _announce(self, zeroconf: Zeroconf, service: str, addresses: tuple[str, ...]) -> None:
        """Announce a new instance, then take the one before back: Go looks at each instance only once."""
        async with self._changing:
            before, self._announced = self._announced, None
            if txt := txt_from_addresses(addresses, self._peer_id):
                info = self._service_info(service, addresses, txt)
                # "cooperating" leaves out the search for a namesake, which a random name does not have
                sending = await zeroconf.async_register_service(info, cooperating_responders=True, strict=False)
                self._announced = (info, sending)
            if before:
                await before[1]  # its last announcement must not come after its goodbye
                await (await zeroconf.async_unregister_service(before[0]))

    def _service_info(self, service: str, addresses: tuple[str, ...], txt: bytes) -> ServiceInfo:
        instance = "".join(secrets.choice(_INSTANCE_ALPHABET) for _ in range(INSTANCE_CHARS))
        everywhere = ("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1")
        return ServiceInfo(
            service,
            f"{instance}.{service}",
            port=announced_port(addresses),
            properties=txt,
            server=f"{instance}.local.",
            parsed_addresses=list(announced_hosts(addresses) or announced_hosts(dialable_addresses(everywhere))),
        )


class _Listener(RecordUpdateListener):
    """Sees every record that arrives; the names of ours are compared with regard to case, as Go does."""

    def __init__(self, service: str, sightings: Sightings, on_found: OnFound) -> None:
        self._suffix = f".{service}"
        self._sightings = sightings
        self._on_found = on_found

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called in zeroconf's loop, ``now`` in milliseconds."""
        for record in (update.new for update in records):
            if isinstance(record, DNSText) and record.name.endswith(self._suffix):
                if record.is_expired(now):
                    self._sightings.gone(record.name)
                elif found := self._sightings.seen(record.name, record.text, now / 1000):
                    try:
                        self._on_found(found.peer_id, found.addresses)
                    except Exception as error:
                        _LOG.error("mdns_callback_failed", error=repr(error)[:300])

    def async_update_records_complete(self) -> None:
        """Nothing is left to do."""
