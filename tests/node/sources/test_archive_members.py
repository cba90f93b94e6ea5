"""Honest and hostile entries of archives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import Forbidden
from localai.node.sources.archive_members import (
    DEFAULT_UNPACK_LIMITS,
    Entry,
    EntryKind,
    followed_links,
    link_target,
    taken_path,
)


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("m.gguf", "file", "m.gguf"),
        ("./a//./m.gguf", "file", "a/m.gguf"),
        ("a/link", "link", "a/link"),
        ("a/link", "hard link", "a/link"),
        ("a/", "folder", None),
        ("./", "folder", None),
        (".", "file", None),
        ("a/.wh.m.gguf", "file", None),
        (".wh..wh..opq", "file", None),
        (".git/config", "file", None),
        ("m.yaml", "file", None),
        ("M.YML", "link", None),
        ("a/config.yaml", "file", "a/config.yaml"),
    ],
)
def test_what_is_taken(name: str, kind: EntryKind, path: str | None) -> None:
    assert taken_path(Entry(name, kind)) == path


@pytest.mark.parametrize("name", ["/m", "../m", "a/../m", "a\\b", "a\0b", "a\nb", "x" * 201, "/".join("a" * 17)])
def test_paths_that_refuse_the_archive(name: str) -> None:
    for kind in ("file", "folder", "link"):
        with pytest.raises(Forbidden, match="has an impossible path"):
            taken_path(Entry(name, kind))


def test_devices_refuse_the_archive() -> None:
    with pytest.raises(Forbidden, match="a device or another special file"):
        taken_path(Entry(".dev", "other"))


@pytest.mark.parametrize(
    ("path", "kind", "link", "target"),
    [
        ("a/b/l", "link", "../m", "a/m"),
        ("a/l", "link", "./m//n", "a/m/n"),
        ("a/b/l", "hard link", "a/m", "a/m"),
        ("l", "link", "", ""),
    ],
)
def test_where_links_lead(path: str, kind: EntryKind, link: str, target: str) -> None:
    assert link_target(Entry(path, kind, link), path) == target


@pytest.mark.parametrize(("kind", "link"), [("link", "../../m"), ("hard link", "../m"), ("link", "/etc/passwd"),
                                            ("link", "a\\b"), ("link", "a\0")])  # fmt: skip
def test_links_that_lead_out(kind: EntryKind, link: str) -> None:
    with pytest.raises(Forbidden, match="a link that leads out"):
        link_target(Entry("a/l", kind, link), "a/l")


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", ".x"]), max_size=8).map("/".join),
       st.lists(st.sampled_from(["a", "..", "", "."]), max_size=8).map("/".join))  # fmt: skip
def test_nothing_leaves_the_folder(name: str, link: str) -> None:
    entry = Entry(name, "link", link)
    try:
        path = taken_path(entry)
        target = link_target(entry, path) if path else ""
    except Forbidden:
        return
    for each in (path or "a", target or "a"):
        assert not each.startswith("/")
        assert ".." not in each.split("/")


def test_links_are_followed_to_files() -> None:
    links = {"a": "b", "b": "f", "c": "nowhere", "d": "e", "e": "d"}
    assert followed_links(links, {"f"}) == {"a": "f", "b": "f"}
    assert followed_links({"f": "f", "a": "f", "g": "b", "b": "g"}, {"f", "g"}) == {"a": "f", "b": "g"}
    chain = {str(number): str(number + 1) for number in range(20)}
    assert set(followed_links(chain, {"20"})) == {str(number) for number in range(12, 20)}


def test_how_much_may_come_out() -> None:
    assert DEFAULT_UNPACK_LIMITS.unpacked_bytes(1000) == 20_000 + (1 << 30)
