from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from localai.mesh.control import KnownPeer
from localai.mesh.dialing import MAX_ADDRESSES
from localai.mesh.identity import identity_from_private_key
from localai.node.peers.address_book import MAX_PEERS, AddressBook, read_address_book, write_address_book

ID = identity_from_private_key(bytes(32)).peer_id


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    book = AddressBook(("/ip4/0.0.0.0/tcp/4001",), {ID: ("/ip4/10.0.0.2/tcp/4001",)})
    write_address_book(tmp_path / "swarm.json", book)
    assert read_address_book(tmp_path / "swarm.json") == book
    assert book.known() == (KnownPeer(ID, ("/ip4/10.0.0.2/tcp/4001",)),)


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert read_address_book(tmp_path / "swarm.json") == AddressBook()
    assert logs == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[]", b'{"peers": [1]}', b"[" * 100_000])
def test_a_damaged_file_only_makes_the_start_slower(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "swarm.json").write_bytes(content)
    with capture_logs() as logs:
        assert read_address_book(tmp_path / "swarm.json") == AddressBook()
    assert [line["event"] for line in logs] == ["address_book_unreadable"]


def test_a_later_version_may_write_more(tmp_path: Path) -> None:
    (tmp_path / "swarm.json").write_text('{"listen": ["/ip4/0.0.0.0/tcp/1"], "new": {"a": 1}}')
    assert read_address_book(tmp_path / "swarm.json").listen == ("/ip4/0.0.0.0/tcp/1",)


def test_a_folder_that_cannot_be_written_is_only_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        write_address_book(tmp_path / "missing" / "swarm.json", AddressBook())
    assert [line["event"] for line in logs] == ["address_book_not_written"]


def test_only_ids_that_are_ids_are_given_on_and_not_too_many() -> None:
    addresses = tuple(f"/ip4/10.0.0.2/tcp/{port}" for port in range(100))
    book = AddressBook((), {"nobody": addresses, ID: addresses})
    (peer,) = book.known()
    assert peer == KnownPeer(ID, addresses[:MAX_ADDRESSES])
    others = [identity_from_private_key(bytes([n // 256, n % 256]) * 16).peer_id for n in range(MAX_PEERS + 10)]
    assert len(AddressBook((), dict.fromkeys(others, ("/ip4/10.0.0.2/tcp/1",))).known()) == MAX_PEERS
