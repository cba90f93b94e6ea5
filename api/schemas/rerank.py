"""Bodies of ``/v1/rerank`` (pure). Source: Jina's reranker API."""

from __future__ import annotations

import msgspec


class DocumentText(msgspec.Struct, frozen=True):
    """A document as an object. Its other fields are ignored."""

    text: str


class RerankBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/rerank``."""

    model: str | None = None
    query: str | DocumentText
    documents: list[str | DocumentText]
    top_n: int | None = None
    return_documents: bool | None = None


class RerankUsage(msgspec.Struct, frozen=True):
    """Tokens of the query and the documents."""

    total_tokens: int
    prompt_tokens: int


class RerankResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One document and how well it answers. ``index`` is its place in the request."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class RerankResponse(msgspec.Struct, frozen=True):
    """The best documents, best first."""

    model: str
    usage: RerankUsage
    results: list[RerankResult]
