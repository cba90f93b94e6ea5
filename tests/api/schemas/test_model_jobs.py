from __future__ import annotations

import msgspec
import pytest

from localai.api.schemas.model_jobs import ApplyBody, AvailableModel, FileBody, GalleryBody


def test_a_wish_may_have_keys_that_mean_nothing_here() -> None:
    body = msgspec.json.decode(b'{"id": "g@m", "variant": "x", "config_url": "y"}', type=ApplyBody)
    assert body == ApplyBody(id="g@m")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"overrides": []}', type=ApplyBody)


def test_what_is_not_said_is_left_out() -> None:
    model = AvailableModel(name="m", gallery=GalleryBody("u", "g"), files=[FileBody("f")])
    assert msgspec.json.decode(msgspec.json.encode(model)) == {
        "name": "m",
        "gallery": {"url": "u", "name": "g"},
        "files": [{"filename": "f"}],
    }
