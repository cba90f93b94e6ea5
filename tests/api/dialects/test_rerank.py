from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.rerank import parse_rerank, render_rerank
from localai.api.schemas.rerank import RerankBody
from localai.mesh.errors import InvalidRequest, UpstreamFailed
from localai.node.inference import Event, Finished, Progress, RequestId, RerankRequest, Scored, Usage


def body(**fields: Any) -> RerankBody:
    return msgspec.convert({"query": "q", "documents": ["a", "b", "c"], **fields}, RerankBody)


def parse(asked: RerankBody, *, local_only: bool = False) -> RerankRequest:
    return parse_rerank(asked, RequestId("r"), "m", local_only=local_only)


def answer(asked: RerankBody, *scores: float) -> Any:
    events: list[Event] = [Progress("queued"), Scored(scores), Finished((), Usage(7, 0))]
    return msgspec.to_builtins(render_rerank(asked, parse(asked), events))


def test_documents_and_the_query_are_texts_or_objects() -> None:
    asked = body(query={"text": "q"}, documents=["a", {"text": "b", "id": 1}])
    assert parse(asked, local_only=True) == RerankRequest(RequestId("r"), "m", "q", ("a", "b"), local_only=True)


def test_the_best_come_first() -> None:
    assert answer(body(), 0.25, 0.75, 0.5) == {
        "model": "m",
        "usage": {"total_tokens": 7, "prompt_tokens": 7},
        "results": [
            {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
            {"index": 0, "relevance_score": 0.25, "document": {"text": "a"}},
        ],
    }


def test_without_documents() -> None:
    assert answer(body(return_documents=False, top_n=1), -1.0, 0.0, -2.0)["results"] == [
        {"index": 1, "relevance_score": 0.0}
    ]
    assert answer(body(documents=[]))["results"] == []


@pytest.mark.parametrize(
    ("fields", "code", "param", "message"),
    [
        ({"top_n": 0}, "top_n_too_small", "top_n", "top_n - should be greater than or equal to 1"),
        ({"top_n": -3}, "top_n_too_small", "top_n", "top_n - should be greater than or equal to 1"),
        (
            {"documents": ["x"] * 2049},
            "invalid_request",
            "documents",
            "'documents' has 2049 entries; at most 2048 are allowed. Send fewer.",
        ),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], code: str, param: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body(**fields))
    assert (caught.value.code, caught.value.param, caught.value.message) == (code, param, message)


@pytest.mark.parametrize("scores", [(), (1.0, 2.0), (1.0, 2.0, float("nan")), (1.0, 2.0, float("inf"))])
def test_a_backend_must_score_every_document(scores: tuple[float, ...]) -> None:
    with pytest.raises(UpstreamFailed):
        answer(body(), *scores)


@given(st.lists(st.floats(-10, 10), max_size=8), st.none() | st.integers(1, 10))
def test_any_scores_come_sorted_and_cut(scores: list[float], top_n: int | None) -> None:
    documents = [f"document {place}" for place in range(len(scores))]
    results = answer(body(documents=documents, top_n=top_n), *scores)["results"]
    assert len(results) == min(len(scores), top_n or len(scores))
    assert [result["relevance_score"] for result in results] == sorted(scores, reverse=True)[: len(results)]
    for result in results:
        place = result["index"]
        assert (result["relevance_score"], result["document"]) == (scores[place], {"text": documents[place]})
