"""The mesh process's work: finds members, keeps connections with them, spreads records, joins streams (trio shell).

It is told everything by the frames of ``control.py`` and tells everything by them; what a record or a stream holds is
none of its business.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial

import structlog
import trio

from localai.mesh.addresses import check_multiaddr
from localai.mesh.control import (
    MAX_SOCKET_PATH_BYTES,
    Configure,
    Counted,
    Dial,
    Expose,
    Exposed,
    FromMesh,
    Inbound,
    Joined,
    Left,
    Publish,
    Ready,
    RecordChanged,
    RecordExpired,
    inbound_codec,
)
from localai.mesh.dialing import Dialing, DialNow
from localai.mesh.errors import LocalAIError, Unavailable, WireError
from localai.mesh.host.gossip import REPAIR_S, Gossip
from localai.mesh.host.host import Host, HostStream
from localai.mesh.host.rendezvous import Rendezvous
from localai.mesh.identity import identity_from_private_key
from localai.mesh.ids import NetworkId, PeerId
from localai.mesh.ledger import MAX_AHEAD_MS, Ledger, Merged
from localai.mesh.local_addresses import dialable_addresses
from localai.mesh.mdns import Mdns
from localai.mesh.members import MemberEvents, Members, OwnSide, Proofs
from localai.mesh.membership_proof import check_membership, membership_proof
from localai.mesh.network_token import parse_network_token
from localai.mesh.otp import rendezvous_at, rendezvous_names
from localai.mesh.pump import pump
from localai.mesh.records import (
    MAX_BODY_BYTES,
    SignedRecord,
    open_sealed,
    records_key,
    records_keys,
    records_topics,
    seal,
    sign_record,
    verify_record,
)

_LOG = structlog.get_logger()

PUBLISH_S = 10.0
"""Between two records of this node when nothing changes; a third of what makes others forget it."""
MIN_PUBLISH_S = 1.0
"""Between two records when something changes often."""
TOPIC_TOLERANCE_S = 30.0
RENDEZVOUS_S = 15.0
ADDRESSES_S = 10.0
"""How often this node looks whether its addresses have changed."""
SEND_AWAY_S = 0.5
MAX_DIALS = 8
MAX_EXPOSED = 1024
NONCE_BYTES = 12

Emit = Callable[[FromMesh], None]


class Swarm:
    """One configured swarm. ``run`` it once; ``take`` may be called from then on."""

    def __init__(self, configure: Configure, emit: Emit) -> None:
        """Make it.

        Raises:
            LocalAIError: the settings cannot be used; the message says why.
        """
        for address in configure.bootstrap:
            check_multiaddr(address, needs_peer=True)
        self._configure = configure
        self._emit = emit
        self._token = parse_network_token(configure.token)
        self._network_id = NetworkId(configure.network_id)
        self._identity = identity_from_private_key(configure.private_key)
        self._own = self._identity.peer_id
        self._host = Host(configure.private_key, configure.listen, dialable_addresses)
        self._ledger = Ledger(self._own)
        self._dialing = Dialing(self._own)
        self._counts: Counter[str] = Counter()
        self._epoch = time.time_ns() // 1_000_000
        self._seq = 0
        self._body: bytes | None = None
        self._published = float("-inf")
        self._wake_dialer = trio.Event()
        self._wake_publisher = trio.Event()
        self._exposed: dict[tuple[PeerId, str], str] = {}
        self._paths = itertools.count()
        self._nursery: trio.Nursery | None = None
        self._mdns: Mdns | None = None
        self._gossip = Gossip(self._host, partial(self._record_arrived, "gossip"))
        self._members = Members(
            self._host,
            Proofs(
                lambda peer: membership_proof(self._token, self._network_id, self._own, peer),
                lambda peer, proof: check_membership(proof, self._token, self._network_id, peer, self._own),
            ),
            MemberEvents(self._joined, self._left, self._stranger, partial(self._record_arrived, "member")),
            OwnSide(self.addresses, self._sealed_records),
        )

    def addresses(self) -> tuple[str, ...]:
        """Where others can dial this node."""
        return dialable_addresses(self._host.listening())

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            SetupError: the addresses to listen on cannot be used.
        """
        for protocol in self._configure.protocols:
            self._host.serve(protocol, partial(self._inbound, protocol))
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            self._nursery = nursery
            await stack.enter_async_context(self._host.run(self._connected, self._disconnected))
            await stack.enter_async_context(self._gossip.run())
            await self._rotate_topics()
            stack.push_async_callback(self._end_mdns)
            for known in self._configure.known:
                self._found(known.peer, known.addresses, given=known.given)
            self._say_ready(await self._start_mdns())
            jobs = (self._dial, self._publish, self._keep_topics, self._keep_ledger, self._keep_addresses)
            for job in (*jobs, self._report_counts):
                nursery.start_soon(job)
            if self._configure.bootstrap:
                nursery.start_soon(self._meet)
            try:
                await trio.sleep_forever()
            finally:
                nursery.cancel_scope.cancel()

    async def leave(self) -> None:
        """Say goodbye to the members, before ``run`` is cancelled."""
        await self._members.leave("the node stops")

    # Told by the node

    def take(self, frame: Publish | Dial | Expose) -> None:
        """Do what a frame says."""
        match frame:
            case Publish(body=body):
                if len(body) > MAX_BODY_BYTES:
                    _LOG.error("record_too_long", size=len(body), limit=MAX_BODY_BYTES)
                    return
                self._body = body
                self._wake_publisher.set()
            case Dial(peer=known):
                self._found(known.peer, known.addresses, given=known.given)
            case Expose(peer=peer, protocol=protocol):
                if self._nursery is not None:
                    self._nursery.start_soon(self._expose, peer, protocol)

    # Discovery

    async def _start_mdns(self) -> tuple[str, ...]:
        """Look for others on the LAN; get what does not work, as sentences."""
        if not self._configure.mdns:
            return ()
        trio_token = trio.lowlevel.current_trio_token()

        def on_found(peer: PeerId, addresses: tuple[str, ...]) -> None:
            trio_token.run_sync_soon(self._found, peer, addresses)

        mdns = Mdns(self._token.mdns.reveal(), self._own, self.addresses(), on_found)
        try:
            await trio.to_thread.run_sync(mdns.start)
        except LocalAIError as error:
            _LOG.warning("mdns_not_started", error=error.message, detail=error.detail)
            return (error.message,)
        self._mdns = mdns
        return ()

    async def _end_mdns(self) -> None:
        if self._mdns is not None:
            with trio.CancelScope(shield=True):  # it waits for its thread, which may be waiting for this loop
                await trio.to_thread.run_sync(self._mdns.close)

    async def _keep_addresses(self) -> None:
        """Laptops change networks, and machines start before their network does."""
        known = self.addresses()
        while True:
            await trio.sleep(ADDRESSES_S)
            if (addresses := self.addresses()) == known:
                continue
            known = addresses
            if self._mdns is not None:
                self._mdns.update_addresses(addresses)
                self._say_ready(())
            else:
                self._say_ready(await self._start_mdns())

    def _say_ready(self, warnings: tuple[str, ...]) -> None:
        self._emit(Ready(self._own, self._host.listening(), self.addresses(), warnings))

    def _found(self, peer: PeerId, addresses: tuple[str, ...], given: bool = False) -> None:
        self._dialing.found(peer, addresses, trio.current_time(), given=given)
        if self._host.is_connected(peer):
            self._dialing.connected(peer)
        self._wake_dialer.set()

    async def _dial(self) -> None:
        limiter = trio.CapacityLimiter(MAX_DIALS)
        async with trio.open_nursery() as nursery:
            while True:
                self._wake_dialer = trio.Event()
                for dial in self._dialing.due(trio.current_time()):
                    nursery.start_soon(self._dial_one, dial, limiter)
                due = self._dialing.next_wakeup()
                with trio.move_on_at(due if due is not None else trio.current_time() + 60.0):
                    await self._wake_dialer.wait()

    async def _dial_one(self, dial: DialNow, limiter: trio.CapacityLimiter) -> None:
        try:
            async with limiter:
                await self._host.dial(dial.peer, dial.addresses)
        except Unavailable as error:
            self._counts["dials_failed"] += 1
            _LOG.debug("dial_failed", peer=dial.peer, detail=error.detail)
        finally:
            self._dialing.dialled(dial.peer, trio.current_time())
            self._wake_dialer.set()

    async def _meet(self) -> None:
        rendezvous = Rendezvous(self._host, self._configure.bootstrap, server=self._configure.dht_server)
        async with rendezvous.run():
            while True:
                now = time.time()
                connected = await rendezvous.meet(
                    rendezvous_names(self._token, now), (rendezvous_at(self._token, now),), self._found
                )
                self._counts["dht_rounds"] += 1
                self._counts["dht_rounds_without_bootstrap"] += not connected
                await trio.sleep(RENDEZVOUS_S)

    # Members

    def _connected(self, peer: PeerId) -> None:
        self._dialing.connected(peer)
        if self._nursery is not None:
            self._nursery.start_soon(self._members.connected, peer)

    def _disconnected(self, peer: PeerId) -> None:
        self._dialing.disconnected(peer, trio.current_time())
        self._wake_dialer.set()

    def _joined(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self._found(peer, addresses)
        self._dialing.joined(peer, trio.current_time())
        _LOG.info("member_joined", peer=peer)
        self._emit(Joined(peer, addresses))

    def _left(self, peer: PeerId, reason: str) -> None:
        _LOG.info("member_left", peer=peer, reason=reason)
        self._emit(Left(peer, reason))

    def _stranger(self, peer: PeerId) -> None:
        self._dialing.is_stranger(peer, trio.current_time())
        if self._nursery is not None and not self._configure.bootstrap:  # in a DHT most peers are strangers
            self._nursery.start_soon(self._send_away, peer)

    async def _send_away(self, peer: PeerId) -> None:
        """Not at once: a peer that sees its stream end on a living connection knows that it was refused."""
        await trio.sleep(SEND_AWAY_S)
        if peer not in self._members:
            await self._host.disconnect(peer)

    # Records

    async def _publish(self) -> None:
        while True:
            with trio.move_on_at(self._published + PUBLISH_S if self._body is not None else trio.current_time() + 60.0):
                await self._wake_publisher.wait()
            await trio.sleep_until(self._published + MIN_PUBLISH_S)
            self._wake_publisher = trio.Event()
            if self._body is not None:
                await self._publish_now(self._body)

    async def _publish_now(self, body: bytes) -> None:
        self._published = trio.current_time()
        self._seq += 1
        record = sign_record(self._own, self._epoch, self._seq, body, self._network_id, self._identity.sign)
        self._ledger.put_own(record)
        sealed = self._seal(record)
        self._members.send_record(sealed)
        try:
            await self._gossip.publish(sealed)
        except Exception as error:  # of the library: the next record comes in seconds
            _LOG.debug("publish_failed", error=repr(error)[:200])

    def _seal(self, record: SignedRecord) -> bytes:
        key = records_key(self._token, self._network_id, time.time())
        return seal(record, key, secrets.token_bytes(NONCE_BYTES))

    def _sealed_records(self) -> list[bytes]:
        return [self._seal(record) for record in self._ledger.records()]

    def _record_arrived(self, way: str, sealed: bytes) -> None:
        try:
            record = self._open(sealed)
        except WireError:
            self._counts["records_unreadable"] += 1
            return
        wall_ms = time.time_ns() // 1_000_000
        outcome = self._ledger.merge(record, trio.current_time(), wall_ms)
        self._counts[f"records_{outcome}"] += 1
        if outcome is Merged.DUPLICATE_IDENTITY and record.epoch <= wall_ms + MAX_AHEAD_MS:
            # Our own earlier run, when the clock has been set back since: others believe only what is newer.
            self._epoch = max(self._epoch, record.epoch + 1)
            self._wake_publisher.set()
        if outcome in (Merged.NEW, Merged.UPDATED, Merged.REPLACED):
            _LOG.debug("record_taken", author=record.author, way=way, outcome=outcome)
            self._emit(RecordChanged(record.author, record.body))

    def _open(self, sealed: bytes) -> SignedRecord:
        problem = WireError("A record opens with no key of this time.")
        for key in records_keys(self._token, self._network_id, time.time(), TOPIC_TOLERANCE_S):
            try:
                record = open_sealed(sealed, key)
            except WireError as error:
                problem = error
                continue
            verify_record(record, self._network_id)
            return record
        raise problem

    async def _keep_topics(self) -> None:
        while True:
            await trio.sleep(REPAIR_S)
            await self._rotate_topics()
            await self._gossip.repair(self._members.peers())

    async def _rotate_topics(self) -> None:
        topics = records_topics(self._token, self._network_id, time.time(), TOPIC_TOLERANCE_S)
        await self._gossip.set_topics(topics)

    async def _keep_ledger(self) -> None:
        while True:
            await trio.sleep(1.0)
            for author in self._ledger.expire(trio.current_time()):
                self._emit(RecordExpired(author))

    async def _report_counts(self) -> None:
        reported: dict[str, int] = {}
        while True:
            await trio.sleep(1.0)
            counts = {**self._counts, **self._members.counts, "broken_handlers": self._host.broken_handlers}
            if counts != reported:
                self._emit(Counted(counts))
                reported = counts

    # Streams

    async def _inbound(self, protocol: str, peer: PeerId, stream: HostStream) -> None:
        if peer not in self._members:
            self._counts["streams_refused"] += 1
            return
        try:
            connection = await trio.open_unix_socket(self._configure.inbound_path)
        except OSError as error:
            _LOG.warning("node_does_not_accept", error=repr(error)[:200])
            return
        async with connection:
            with suppress(trio.BrokenResourceError):  # the node has closed it at once
                await connection.send_all(inbound_codec().encode(Inbound(peer, protocol)))
                await pump(stream, connection, hold_end=True)

    async def _expose(self, peer: PeerId, protocol: str) -> None:
        key = (peer, protocol)
        if (path := self._exposed.get(key)) is None:
            path = f"{self._configure.folder}/{next(self._paths)}"
            problem = "too many peers" if len(self._exposed) >= MAX_EXPOSED else ""
            if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
                problem = "the folder's path is too long"
            if not problem:
                try:
                    await self._listen(path, peer, protocol)
                except OSError as error:
                    problem = repr(error)[:200]
            if problem:
                self._emit(Exposed(peer, protocol, "", problem))
                return
            self._exposed[key] = path
        self._emit(Exposed(peer, protocol, path))

    async def _listen(self, path: str, peer: PeerId, protocol: str) -> None:
        assert self._nursery is not None
        listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await listener.bind(path)
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        handler = partial(self._outbound, peer, protocol)
        self._nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(listener)])

    async def _outbound(self, peer: PeerId, protocol: str, connection: trio.SocketStream) -> None:
        try:
            if peer not in self._members:
                raise Unavailable("The peer is not a member, or not connected.")
            stream = await self._host.open_stream(peer, protocol)
        except Unavailable as error:
            self._counts["streams_not_opened"] += 1
            _LOG.debug("stream_not_opened", peer=peer, protocol=protocol, error=error.message, detail=error.detail)
            await connection.aclose()
            return
        await pump(stream, connection, hold_end=False)
