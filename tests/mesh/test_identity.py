from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from localai.mesh.errors import SetupError
from localai.mesh.identity import load_identity
from localai.mesh.ids import verify


def test_it_is_made_once_for_its_owner_alone_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    identity = load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_identity(path) == identity
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.key"]
    assert load_identity(tmp_path / "other.key").peer_id != identity.peer_id


def test_it_signs_for_its_peer_id_and_shows_nothing(tmp_path: Path) -> None:
    identity = load_identity(tmp_path / "identity.key")
    verify(identity.peer_id, identity.sign(b"hello"), b"hello")
    assert identity.private_key.reveal().hex() not in repr(identity)
    assert "***" in repr(identity)


def test_many_at_once_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    with ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(load_identity, [path] * 32))
    assert len({identity.peer_id for identity in identities}) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_key_in_the_standard_form_is_taken(tmp_path: Path) -> None:
    """The example of RFC 8410, section 10.3."""
    path = tmp_path / "identity.key"
    path.write_text(
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
        "-----END PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    assert load_identity(path).private_key.reveal().hex().startswith("d4ee72dbf913584a")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100, b"x" * 5000])
def test_what_is_no_key_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SetupError, match="backup"):
        load_identity(path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(
        X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    with pytest.raises(SetupError, match="another kind"):
        load_identity(path)


def test_a_key_that_others_can_read_is_refused_with_the_command(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    load_identity(path)
    path.chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        load_identity(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be used"):
        load_identity(tmp_path / "none" / "identity.key")
