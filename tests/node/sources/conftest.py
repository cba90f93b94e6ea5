"""Two servers on loopback, which are different hosts, and a session for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from localai.node.sources.http_client import hub_session
from localai.node.sources.testing import StubServer, stub_server
from localai.node.sources.transfer import FetchLimits


@pytest.fixture
async def server() -> AsyncIterator[StubServer]:
    """Where the files are."""
    async with stub_server() as server:
        yield server


@pytest.fixture
async def other_server() -> AsyncIterator[StubServer]:
    """Another host."""
    async with stub_server("127.0.0.2") as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """What downloads use."""
    async with hub_session("localai-mesh/test", trust_env=False) as session:
        yield session


@pytest.fixture
def limits() -> FetchLimits:
    """No waiting between tries, and whatever the disk has."""
    return FetchLimits(idle_s=10.0, total_s=20.0, first_wait_s=0.0, space_margin_bytes=0)
