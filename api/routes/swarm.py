"""``GET`` what this node knows of its swarm (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.swarm import PeerBody, PeersBody
from localai.api.state import DISPATCH
from localai.mesh.ids import short_id
from localai.node.peers.peers import PeerStatus


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    add_route(router, "GET", "/api/p2p/peers", list_peers, Operation(answer=PeersBody))


async def list_peers(http: web.Request) -> web.Response:
    """The other nodes, connected ones first."""
    peers = http.app[DISPATCH].peers
    if peers is None:
        return json_response(PeersBody(enabled=False))
    statistics = peers.statistics()
    return json_response(
        PeersBody(
            enabled=True,
            node=short_id(peers.peer_id),
            peer_id=peers.peer_id,
            addresses=list(statistics.addresses),
            warnings=list(statistics.warnings),
            peers=[_peer_body(status) for status in peers.statuses()],
            counts=statistics.counts,
            mesh_restarts=statistics.restarts,
        )
    )


def _peer_body(status: PeerStatus) -> PeerBody:
    record = status.record
    return PeerBody(
        node=short_id(status.peer),
        peer_id=status.peer,
        connected=status.connected,
        usable=status.usable,
        serves=record is not None and record.serves,
        draining=record is not None and record.draining,
        round_trip_ms=round(status.round_trip_s * 1000, 2),
        in_flight=status.in_flight,
        models=[model.name for model in record.models] if record is not None else [],
        contents={model.name: model.content.hex() for model in record.models if model.content} if record else {},
        program=record.program if record is not None else "",
    )
