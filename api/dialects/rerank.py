"""Jina's reranking: body to request, scores to results (pure).

Source: Jina's reranker API, and LocalAI's error for ``top_n``. LocalAI always returns the documents, Jina unless
``return_documents`` is false; so it is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from localai.api.schemas.rerank import DocumentText, RerankBody, RerankResponse, RerankResult, RerankUsage
from localai.mesh.errors import InvalidRequest, UpstreamFailed
from localai.node.inference import MAX_INPUTS, Event, Finished, RequestId, RerankRequest, Scored, Usage

TOP_N_TOO_SMALL = "top_n_too_small"


def parse_rerank(body: RerankBody, request_id: RequestId, model: str, *, local_only: bool) -> RerankRequest:
    """The request a body stands for.

    Raises:
        InvalidRequest: ``top_n`` is below 1, which has a code of its own, or there are too many documents.
    """
    if body.top_n is not None and body.top_n < 1:
        message = "top_n - should be greater than or equal to 1"
        raise InvalidRequest(message, code=TOP_N_TOO_SMALL, param="top_n")
    if len(body.documents) > MAX_INPUTS:
        message = f"'documents' has {len(body.documents)} entries; at most {MAX_INPUTS} are allowed. Send fewer."
        raise InvalidRequest(message, param="documents")
    documents = tuple(_text(document) for document in body.documents)
    return RerankRequest(request_id, model, _text(body.query), documents, local_only=local_only)


def render_rerank(body: RerankBody, request: RerankRequest, events: Iterable[Event]) -> RerankResponse:
    """The answer: the ``top_n`` best documents, best first, those of equal score in their order.

    Raises:
        UpstreamFailed: the events do not score every document.
    """
    scores: tuple[float, ...] = ()
    usage = Usage(0, 0)
    for event in events:
        match event:
            case Scored():
                scores = event.scores
            case Finished():
                usage = event.usage
            case _:
                pass
    if len(scores) != len(request.documents) or not all(map(math.isfinite, scores)):
        raise UpstreamFailed("The backend did not score every document. Try again, or use another model.")
    best = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    return RerankResponse(
        request.model,
        RerankUsage(usage.prompt_tokens + usage.completion_tokens, usage.prompt_tokens),
        [
            RerankResult(
                place,
                scores[place],
                None if body.return_documents is False else DocumentText(request.documents[place]),
            )
            for place in best
        ],
    )


def _text(document: str | DocumentText) -> str:
    return document if isinstance(document, str) else document.text
