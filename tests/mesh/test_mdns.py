"""Real packets, each test in network namespaces of its own: no test sees the LAN it runs on, or another test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from localai.node.testing.lan import Host, lan

pytestmark = pytest.mark.e2e

PRELUDE = """
import queue, threading
from localai.mesh.errors import SetupError
from localai.mesh.ids import peer_id_from_public_key
from localai.mesh.mdns import Mdns

TAG = "Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1"
ALICE, BOB = (peer_id_from_public_key(bytes([number]) * 32) for number in (1, 2))

class Node(Mdns):
    def __init__(self, peer_id, *addresses, tag=TAG):
        self.found = queue.Queue()
        super().__init__(tag, peer_id, addresses, lambda *found: self.found.put(found))

    def wait(self):
        return self.found.get(timeout=5)
"""


def run(host: Host, script: str) -> str:
    """What the script prints on this host. Any warning in it is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + script]
    result = subprocess.run(host.command(command), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert "mdns_failed" not in result.stdout
    return result.stdout


def test_two_nodes_find_each_other_with_all_addresses() -> None:
    with lan(1) as (host,):
        run(
            host,
            """
addresses = ("/ip4/10.98.0.1/tcp/4001", "/ip6/fd98::1/tcp/4001", "/dns4/alice.local/tcp/4001")
alice, bob = Node(ALICE, *addresses), Node(BOB, "/dns4/bob.local/tcp/4002")
alice.start(); bob.start()
assert alice.wait() == (BOB, ("/dns4/bob.local/tcp/4002",))
assert bob.wait() == (ALICE, addresses)
bob.close(); alice.close(); alice.close()
assert alice.found.empty() and bob.found.empty()
assert threading.enumerate() == [threading.main_thread()]
""",
        )


def test_one_packet_holds_all_that_go_asks_for_and_keeps_the_case_of_the_tag() -> None:
    with lan(1) as (host,):
        run(
            host,
            """
import re, socket
from zeroconf import DNSIncoming

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.settimeout(5)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    receiver.bind(("224.0.0.251", 5353))
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + bytes(4))
    alice = Node(ALICE, *(f"/ip4/10.98.0.1/tcp/{port}" for port in range(40000, 40030)), "/ip6/fd98::1/tcp/1")
    alice.start()
    messages = {}
    while len(messages) < 2:
        data = receiver.recv(9000)
        messages.setdefault(DNSIncoming(data).is_query(), data)
    alice.close()

assert [str(question.name) for question in DNSIncoming(messages[True]).questions] == [f"{TAG}.local."]
assert len(messages[False]) <= 1452
records = {type(record).__name__: record for record in DNSIncoming(messages[False]).answers()}
instance = re.fullmatch(rf"([a-z0-9]{{19}})[.]{TAG}[.]local[.]", records["DNSPointer"].alias)[1]
assert records["DNSPointer"].name == f"{TAG}.local."
assert records["DNSService"].name == records["DNSText"].name == f"{instance}.{TAG}.local."
assert (records["DNSService"].server, records["DNSService"].port) == (f"{instance}.local.", 40000)
assert records["DNSAddress"].name == f"{instance}.local."
assert records["DNSText"].text.startswith(f"dnsaddr=/ip4/10.98.0.1/tcp/40000/p2p/{ALICE}".encode(), 1)
""",
        )


def test_another_tag_is_another_network_even_if_only_its_case_differs() -> None:
    with lan(1) as (host,):
        run(
            host,
            """
others = [Node(ALICE, "/ip4/10.98.0.1/tcp/1", tag=tag) for tag in ("another", TAG.lower(), TAG[1:])]
for other in others:
    other.start()
alice, bob = Node(ALICE, "/ip4/10.98.0.1/tcp/4001"), Node(BOB, "/ip4/10.98.0.1/tcp/4002")
alice.start(); bob.start()
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4002",))
assert bob.wait() == (ALICE, ("/ip4/10.98.0.1/tcp/4001",))
for node in (*others, alice, bob):
    node.close()
    assert node.found.empty()
""",
        )


def test_changed_addresses_and_restarts_are_reported_again() -> None:
    with lan(1) as (host,):
        run(
            host,
            """
alice, bob = Node(ALICE, "/ip4/10.98.0.1/tcp/4001"), Node(BOB, "/ip4/10.98.0.1/tcp/4002")
alice.start(); bob.start()
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4002",))
bob.update_addresses(["/ip4/10.98.0.1/tcp/4002"])
bob.update_addresses(["/ip4/10.98.0.1/tcp/4003"])
bob.update_addresses([])
bob.update_addresses(["/ip4/10.98.0.1/tcp/4004"])
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4003",))
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4004",))
bob.close()
bob.update_addresses(["/ip4/10.98.0.1/tcp/4005"])
bob = Node(BOB, "/ip4/10.98.0.1/tcp/4004")
bob.start()
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4004",))
assert bob.wait()[0] == ALICE
alice.close(); bob.close()
""",
        )


def test_a_node_without_addresses_only_listens() -> None:
    with lan(1) as (host,):
        run(
            host,
            """
alice, bob = Node(ALICE), Node(BOB, "/ip4/10.98.0.1/tcp/4002")
bob.start(); alice.start()
assert alice.wait() == (BOB, ("/ip4/10.98.0.1/tcp/4002",))
alice.close(); bob.close()
assert bob.found.empty()
""",
        )


def test_a_callback_that_fails_is_logged_and_called_again() -> None:
    with lan(1) as (host,):
        printed = run(
            host,
            """
done = threading.Semaphore(0)
def fail(peer, addresses):
    done.release()
    raise ValueError("in the callback")

alice, bob = Mdns(TAG, ALICE, ["/ip4/10.98.0.1/tcp/4001"], fail), Node(BOB, "/ip4/10.98.0.1/tcp/4002")
alice.start(); bob.start()
assert done.acquire(timeout=5)
bob.update_addresses(["/ip4/10.98.0.1/tcp/4003"])
assert done.acquire(timeout=5)
alice.close(); bob.close()
""",
        )
    assert printed.count("mdns_callback_failed") == 2
    assert "in the callback" in printed


def test_without_a_network_it_says_so() -> None:
    with lan(1) as (host,):
        host.cut()
        printed = run(
            host,
            """
node = Node(ALICE, "/ip4/127.0.0.1/tcp/4001")
try:
    node.start()
except SetupError as error:
    print(error.message)
node.close()
assert threading.enumerate() == [threading.main_thread()]
""",
        )
    assert "no interface for multicast. Use --p2p-peers." in printed


def test_a_node_that_was_killed_is_reported_after_its_restart() -> None:
    announce = """
bob = Node(BOB, "/ip4/10.98.0.2/tcp/4002")
bob.start()
input()
"""
    watch = """
alice = Node(ALICE)
alice.start()
for _ in range(2):
    print(*alice.found.get(timeout=60), flush=True)
alice.close()
"""
    bob = [sys.executable, "-c", PRELUDE + announce]
    with (
        lan(2) as (first, second),
        subprocess.Popen(
            first.command([sys.executable, "-c", PRELUDE + watch]), stdout=subprocess.PIPE, text=True
        ) as alice,
    ):
        assert alice.stdout is not None
        for _ in range(2):
            with subprocess.Popen(second.command(bob), stdin=subprocess.PIPE) as process:
                assert "/ip4/10.98.0.2/tcp/4002" in alice.stdout.readline()
                process.kill()
        assert alice.wait() == 0
