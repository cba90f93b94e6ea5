from __future__ import annotations

from localai.api.web.headers import SECURITY_HEADERS


def test_nothing_inline_nothing_foreign_no_framing() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert SECURITY_HEADERS["X-Content-Type-Options"] == "nosniff"
