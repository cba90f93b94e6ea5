"""Fixtures of the whole suite."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from localai.node.testing.models import cached_model
from localai.node.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Machines that run tests are busy: an example may be slow without anything wrong. A failure says how to replay it.
settings.register_profile("busy", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_unconfigure() -> None:
    """Close what llama_cpp leaves open, or Python complains about it below pytest's closing line."""
    module = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if file := getattr(module, name, None):
            file.close()


@pytest.fixture
def anyio_backend() -> str:
    """Our event loop is asyncio; trio belongs to the mesh process."""
    return "asyncio"


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """No test inherits the log set-up of another one."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight GGUF that generates thousands of tokens per second."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A small real chat model, installed once per user."""
    return cached_model("smollm2-135m-instruct")
