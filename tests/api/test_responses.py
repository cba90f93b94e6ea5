from __future__ import annotations

from localai.api.responses import json_response
from localai.api.schemas.system import NotReady


def test_json_ends_with_a_newline_and_keeps_status_and_headers() -> None:
    response = json_response(NotReady("starting", "é"), status=503, headers={"X-A": "b"})
    assert response.status == 503
    assert response.body == '{"status":"starting","reason":"é"}\n'.encode()
    assert response.content_type == "application/json"
    assert response.headers["X-A"] == "b"
