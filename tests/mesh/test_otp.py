"""Vectors and laws of the rotating values."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.network_token import OtpSettings, parse_network_token
from localai.mesh.otp import TextOtp, next_rotation, rendezvous_at, rendezvous_names, window_at, windows_at
from localai.mesh.secrets import Secret

TOKEN = parse_network_token(
    base64.b64encode(
        b"""otp:
  dht:
    interval: 360
    key: Tb4YqWm9ZkRx7NcV2LhPs5GdJf8UaEo3KiMt6QnXrC1
    length: 43
  crypto:
    interval: 9000
    key: Hv8LcXr3QbNm5ZtKs9WyPd2GfJa7UeRo4TiMk6VxYn1
    length: 43
room: pQ7mZr2VxKc9LbT4nWd8HsYf6GjA3uEoRi5CkXqMvB1
rendezvous: aN3xUe8TkSv5BqLw2ZcRm9YhPd7GfJo4Hi6MtVyKr1Q
mdns: Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1
max_message_size: 20971520
"""
    ).decode()
)
NOW = 1_750_000_000


def test_the_published_vectors() -> None:
    assert TextOtp(TOKEN.dht).code(NOW) == "udblLn9jyymv3jT5M/qfGgEHcBM1YP82QszrhL2+nYk"
    assert TextOtp(TOKEN.crypto).code(NOW) == "p4Y0KlMxy8/y4LUZ8O53pFXf9LxUg7L4hpTvz1GlswQ"
    assert rendezvous_at(TOKEN, NOW) == "5e43d952d80bb52ba3302ecfb9a7b4c1"
    window = window_at(TOKEN, NOW)
    assert window.topic == "b117afd2e2252674bb22fee4af477bfa"
    assert window.seal_key == b"253b7090ddb1d47696318aceee1c85f3"
    assert "253b" not in repr(window)


@pytest.mark.parametrize("length", [1, 12, 43, 44])
def test_the_length_cuts_the_code(length: int) -> None:
    whole = TextOtp(OtpSettings(Secret("k"), 30, 44)).code(NOW)
    assert whole.endswith("=")
    assert TextOtp(OtpSettings(Secret("k"), 30, length)).code(NOW) == whole[:length]


def test_names_of_three_windows() -> None:
    previous, current, following = rendezvous_names(TOKEN, NOW)
    assert previous == rendezvous_at(TOKEN, NOW - 360)
    assert current == rendezvous_at(TOKEN, NOW)
    assert following == rendezvous_at(TOKEN, NOW + 360)
    assert len({previous, current, following}) == 3
    assert rendezvous_names(TOKEN, 0.0)[0] == rendezvous_at(TOKEN, 0.0)


@given(st.floats(9000, 4e9), st.floats(0, 100))
def test_a_value_holds_for_its_window_and_no_longer(now: float, tolerance_s: float) -> None:
    rotation = next_rotation(TOKEN, now)
    assert now < rotation <= now + 9000
    assert window_at(TOKEN, now) == window_at(TOKEN, rotation - 1) != window_at(TOKEN, rotation)
    accepted = windows_at(TOKEN, now, tolerance_s)
    assert accepted[0] == window_at(TOKEN, now)
    assert len(accepted) <= 2


def test_around_a_rotation_both_windows_are_accepted() -> None:
    rotation = next_rotation(TOKEN, NOW)
    assert len(windows_at(TOKEN, rotation - 100, 30.0)) == 1
    before, after = windows_at(TOKEN, rotation - 10, 30.0), windows_at(TOKEN, rotation + 10, 30.0)
    assert set(before) == set(after)
    assert before[0] == after[1]
