"""Which backend can answer which request."""

from __future__ import annotations

import pytest

from localai.mesh.errors import Unsupported
from localai.node.features import BACKEND_FEATURES, EVERYTHING, Feature, check_features, check_needed, needed_features
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    JsonSchema,
    Media,
    Request,
    RequestId,
    RerankRequest,
    TextInput,
    TokenizeRequest,
    Tool,
)

ID = RequestId("a")


def chat(*messages: ChatMessage, tools: tuple[Tool, ...] = (), **changes: object) -> GenerateRequest:
    return GenerateRequest(ID, "m", ChatInput(messages, tools), **changes)  # type: ignore[arg-type]  # real fields


NEEDS: list[tuple[Request, set[Feature]]] = [
    (GenerateRequest(ID, "m", TextInput("x")), {Feature.GENERATE}),
    (chat(ChatMessage("user", "x")), {Feature.GENERATE}),
    (chat(tools=(Tool("look"),)), {Feature.GENERATE, Feature.TOOLS}),
    (chat(constraint=JsonSchema()), {Feature.GENERATE, Feature.CONSTRAINT}),
    (chat(logprobs=0), {Feature.GENERATE, Feature.LOGPROBS}),
    (chat(logit_bias=((1, 2.0),)), {Feature.GENERATE, Feature.LOGIT_BIAS}),
    (chat(ChatMessage("user", "x", media=(Media("image", b""),))), {Feature.GENERATE, Feature.MEDIA}),
    (EmbedRequest(ID, "m", ()), {Feature.EMBED}),
    (RerankRequest(ID, "m", "", ()), {Feature.RERANK}),
    (TokenizeRequest(ID, "m", ""), {Feature.TOKENIZE}),
    (TokenizeRequest(ID, "m", "", prompt=ChatInput((), (Tool("look"),))), {Feature.TOKENIZE, Feature.TOOLS}),
    (TokenizeRequest(ID, "m", "", prompt=TextInput("x")), {Feature.TOKENIZE}),
    (DetokenizeRequest(ID, "m", ()), {Feature.TOKENIZE}),
]


@pytest.mark.parametrize(("request_", "features"), NEEDS)
def test_what_a_request_needs(request_: Request, features: set[Feature]) -> None:
    assert needed_features(request_) == features
    check_features(request_, EVERYTHING, "any")


def test_what_is_missing_is_named_with_its_field() -> None:
    with pytest.raises(Unsupported) as caught:
        check_features(chat(tools=(Tool("look"),)), BACKEND_FEATURES["llama-cpp"], "llama-cpp")
    assert caught.value.param == "tools"
    assert caught.value.message == (
        "The backend 'llama-cpp' of model 'm' cannot do tools in this version. Send the request without it."
    )


def test_a_task_that_is_missing_has_no_field() -> None:
    with pytest.raises(Unsupported, match=r"cannot do embeddings in this version\. Use a model of") as caught:
        check_features(EmbedRequest(ID, "m", ()), BACKEND_FEATURES["llama-cpp"], "llama-cpp")
    assert caught.value.param is None


def test_what_is_needed_can_be_asked_before_there_is_a_request() -> None:
    check_needed(set(), set(), "m", "any")
    check_needed({Feature.MEDIA}, {Feature.MEDIA, Feature.TOOLS}, "m", "any")
    with pytest.raises(Unsupported, match="images and sounds") as caught:
        check_needed({Feature.MEDIA}, {Feature.TOOLS}, "m", "any")
    assert caught.value.param == "messages"
