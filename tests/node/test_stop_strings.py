from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from localai.node.stop_strings import StopMatcher

PIECES = st.lists(st.text(alphabet="abé", max_size=4), max_size=8)


def run(stop: tuple[str, ...], pieces: list[bytes]) -> tuple[bytes, str | None]:
    matcher = StopMatcher(stop)
    text, matched = b"", None
    for piece in pieces:
        scan = matcher.feed(piece)
        text += scan.text
        matched = matched or scan.matched
    return text + matcher.flush(), matched


@given(PIECES, st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=3))
@example(["a", "b"], ["ab"])
@example(["aab"], ["ab", "aab"])
def test_however_the_text_is_split_it_is_cut_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces).encode()
    text, matched = run(tuple(stops), [piece.encode() for piece in pieces])
    if matched is None:
        assert text == whole
        assert not any(stop.encode() in whole for stop in stops)
    else:
        assert whole.startswith(text + matched.encode())
        assert not any(stop.encode() in text for stop in stops)


def test_bytes_that_may_begin_a_stop_string_are_held_back_and_no_others() -> None:
    matcher = StopMatcher(("STOP",))
    assert matcher.feed(b"go ST").text == b"go "
    assert matcher.feed(b"A").text == b"STA"
    assert matcher.feed(b"STO").text == b""
    scan = matcher.feed(b"P and more")
    assert (scan.text, scan.matched) == (b"", "STOP")
    assert matcher.feed(b"late").text == b""
    assert matcher.flush() == b""


def test_of_two_at_the_same_place_the_longer_one_is_named() -> None:
    assert run(("ab", "abc"), [b"xabc"]) == (b"x", "abc")


def test_empty_stop_strings_do_nothing() -> None:
    assert run(("",), [b"abc"]) == (b"abc", None)
