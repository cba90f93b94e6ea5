"""Requests made from the description of the API, against the real application over fake workers.

``LOCALAI_TEST_CASES`` says how many in all; 10,000 are made by hand before a release.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from structlog.testing import capture_logs

from localai.node.testing.fake_worker import FakeWorker

pytestmark = pytest.mark.e2e

CASES = int(os.environ.get("LOCALAI_TEST_CASES", "1000"))
CRASHES = {"request_crashed", "stream_crashed", "worker_task_crashed", "swarm_task_crashed"}
_CHECKS = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
_TIMEOUT_S = 20.0


async def test_the_api_is_as_it_is_described(serve: Any, tmp_path: Path) -> None:
    folders = {"models_path": tmp_path / "models", "data_path": tmp_path / "data"}
    for folder in folders.values():
        folder.mkdir()
    async with serve(lambda: FakeWorker(parser_id="tagged"), **folders) as server:
        with capture_logs() as logs:
            statuses, problems = await asyncio.to_thread(_ask_everything, server.url)
    assert problems == []
    assert [entry for entry in logs if entry["event"] in CRASHES] == []
    assert statuses.total() >= CASES
    assert statuses[200] > CASES // 10
    assert statuses[400] > CASES // 10


def _ask_everything(url: str) -> tuple[Counter[int], list[str]]:
    """Statuses of all answers, and what was wrong with them. Runs in a thread: the server has the loop."""
    load_all_checks()
    schema = schemathesis.openapi.from_dict(requests.get(f"{url}/swagger/doc.json", timeout=_TIMEOUT_S).json())
    found = list(schema.get_all_operations())
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    assert len(operations) == len(found)
    varied = [each for each in operations if each.body or each.path_parameters or each.query]
    statuses: Counter[int] = Counter()
    problems: list[str] = []
    with requests.Session() as session:
        for operation in operations:
            share = -(-CASES // len(varied)) if operation in varied else 1
            _ask(operation.as_strategy(), share, url, session, statuses, problems)
            if operation.body:  # and bodies that are not as described
                wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
                _ask(wrong, -(-share // 8), url, session, statuses, problems)
    return statuses, problems


def _ask(
    cases: Any, share: int, url: str, session: requests.Session, statuses: Counter[int], problems: list[str]
) -> None:
    checks = CHECKS.get_by_names(_CHECKS)

    @settings(
        max_examples=share,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        _name_the_model(case)
        response = case.call(base_url=url, session=session, timeout=_TIMEOUT_S)
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as failures:
            problems.append(f"{case.operation.label}: {failures}")

    ask()


def _name_the_model(case: Any) -> None:
    """Every other model that a request names is one there is, or all would be refused for their model."""
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = "m"
    if isinstance(case.body, dict) and "model" in case.body and case.body["model"] != "":
        case.body["model"] = "m"
