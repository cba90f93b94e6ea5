"""Requests as definitions want them, and stop words taken out of answers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category
from localai.node.edit_prompt import edit_prompt, edit_question
from localai.node.go_template.errors import BadTemplate
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    Prompt,
    RequestId,
    TextInput,
    TokenInput,
    TokenizeRequest,
    Tokens,
    Tool,
    Usage,
)
from localai.node.model_config import ModelConfig
from localai.node.output_parser import OutputParser, TextDelta
from localai.node.prepared_request import StopWordFilter, prepared_request, prepared_task
from localai.node.prompt_templates import PromptTemplates

HELLO = ChatInput((ChatMessage("user", "Hello"),))
CHATML = PromptTemplates(
    chat="{{.Input}}\n<assistant>",
    chat_message="<{{.RoleName}}>{{.Content}}",
    completion="Go on: {{.Input}}",
    system_prompt="Be kind.",
)
DONE = Finished(("stop",), Usage(1, 1))


def _ask(prompt: Prompt, **fields: object) -> GenerateRequest:
    return GenerateRequest(RequestId("r"), "m", prompt, **fields)  # type: ignore[arg-type]  # the tests name real fields


def _config(templates: PromptTemplates | None = None, stopwords: tuple[str, ...] = ()) -> ModelConfig:
    return ModelConfig("m", "m.gguf", templates=templates, stopwords=stopwords)


def test_without_a_definition_nothing_changes() -> None:
    for prompt in (HELLO, TextInput("a"), TokenInput((1, 2))):
        request = _ask(prompt, stop=("x",))
        assert prepared_request(request, _config()) == request


def test_a_conversation_becomes_text() -> None:
    request = _ask(HELLO, max_tokens=5)
    prepared = prepared_request(request, _config(CHATML))
    assert prepared == _ask(TextInput("<user>Hello\n<assistant>"), max_tokens=5)
    only_messages = PromptTemplates(chat_message="{{.Content}}!")
    assert prepared_request(request, _config(only_messages)).prompt == TextInput("Hello!")


def test_tools_take_the_template_for_them() -> None:
    tools = ChatInput(HELLO.messages, tools=(Tool("add", parameters='{"type": "object"}'),))
    templates = PromptTemplates(
        chat="x",
        chat_message="{{.Content}}",
        function="{{range .Functions}}{{.Name}}{{toJson .Parameters}}{{end}} {{.Input}}",
    )
    assert prepared_request(_ask(tools), _config(templates)).prompt == TextInput('add{"type":"object"} Hello')


def test_a_text_gets_its_own_template() -> None:
    assert prepared_request(_ask(TextInput("a")), _config(CHATML)).prompt == TextInput("Go on: a")
    assert prepared_request(_ask(TokenInput((1,))), _config(CHATML)).prompt == TokenInput((1,))
    assert prepared_request(_ask(TextInput("a")), _config(PromptTemplates(chat="x"))).prompt == TextInput("a")


def test_the_models_own_template_takes_the_system_prompt_as_a_message() -> None:
    own = PromptTemplates(chat="x", use_tokenizer_template=True, system_prompt="Be kind.")
    assert prepared_request(_ask(HELLO), _config(own)).prompt == ChatInput(
        (ChatMessage("system", "Be kind."), *HELLO.messages)
    )
    with_system = ChatInput((ChatMessage("system", "Be brief."), *HELLO.messages))
    assert prepared_request(_ask(with_system), _config(own)).prompt == with_system
    assert prepared_request(_ask(HELLO), _config(PromptTemplates(use_tokenizer_template=True))).prompt == HELLO


def test_an_edit_takes_the_template_for_it() -> None:
    edit = _ask(edit_prompt("Correct it.", "wat"), max_tokens=5)
    templates = PromptTemplates(chat="x", completion="Go on: {{.Input}}", edit="{{.Instruction}}|{{.Input}}")
    assert prepared_request(edit, _config(templates)) == _ask(TextInput("Correct it.|wat"), max_tokens=5)
    with pytest.raises(BadTemplate, match="edit template"):
        prepared_request(edit, _config(PromptTemplates(edit="{{ index .Functions 3 }}")))


def test_an_edit_without_a_template_is_a_question() -> None:
    edit = _ask(edit_prompt("Correct it.", "wat"))
    question = edit_question("Correct it.", "wat")
    assert prepared_request(edit, _config()).prompt == question
    assert prepared_request(edit, _config(CHATML)).prompt == TextInput("<user>Correct it.\n\nwat\n<assistant>")
    own = PromptTemplates(use_tokenizer_template=True, system_prompt="Be kind.")
    assert prepared_request(edit, _config(own)).prompt == ChatInput(
        (ChatMessage("system", "Be kind."), *question.messages)
    )


def test_a_template_that_fails_is_the_requests_error() -> None:
    with pytest.raises(BadTemplate, match="chat template"):
        prepared_request(_ask(HELLO), _config(PromptTemplates(chat="{{ index .Functions 3 }}")))


def test_stop_words_join_those_of_the_request() -> None:
    prepared = prepared_request(_ask(HELLO, stop=("a", "b")), _config(stopwords=("b", "c")))
    assert prepared.stop == ("a", "b", "c")


def test_without_stop_words_batches_pass_as_they_are() -> None:
    batch: list[Event] = [Tokens(0, (1,), b"x")]
    assert StopWordFilter(_config(), 1).feed(batch) is batch


def test_stop_words_are_taken_out() -> None:
    words = StopWordFilter(_config(stopwords=("</s>",)), 2)
    assert words.feed([Progress("prefill"), Tokens(0, (1, 2), b"yes<"), Tokens(1, (3,), b"no</")]) == [
        Progress("prefill"),
        Tokens(0, (1, 2), b"yes"),
        Tokens(1, (3,), b"no"),
    ]
    done = Finished(("stop_string", "stop"), Usage(1, 5))
    assert words.feed([Tokens(0, (4,), b"/s> and"), done]) == [Tokens(0, (4,), b""), Tokens(1, (), b"</"), done]


def test_other_events_pass() -> None:
    words = StopWordFilter(_config(stopwords=("x",)), 1)
    failed = Failed(Category.INTERNAL, "c", "m")
    assert words.feed([Tokens(7, (1,), b"x"), failed]) == [Tokens(7, (1,), b"x"), failed]


@given(st.text("abx", max_size=30), st.lists(st.integers(0, 30)), st.lists(st.text("abx", min_size=1, max_size=3)))
def test_any_pieces_give_the_text_before_the_first_stop_word(text: str, cuts: list[int], words: list[str]) -> None:
    parser = OutputParser(_ask(TextInput("p")))
    stop = StopWordFilter(_config(stopwords=tuple(words)), 1)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    events: list[Event] = [Tokens(0, (1,), text[begin:end].encode()) for begin, end in itertools.pairwise(places)]
    passed = [answer for event in [*events, DONE] for out in stop.feed([event]) for answer in parser.feed(out)]
    first = min((text.find(word) for word in words if word in text), default=None)
    got = "".join(answer.text for answer in passed if isinstance(answer, TextDelta))
    if first is None:
        assert got == text
    else:
        assert all(word not in got for word in words)
        assert text.startswith(got)


def test_a_prompt_that_is_counted_is_prepared_as_one_that_is_answered() -> None:
    counted = TokenizeRequest(RequestId("r"), "m", "", prompt=HELLO)
    prepared = prepared_task(counted, _config(CHATML))
    assert isinstance(prepared, TokenizeRequest)
    assert prepared.prompt == prepared_request(_ask(HELLO), _config(CHATML)).prompt
    assert prepared_task(_ask(HELLO), _config(CHATML)) == prepared_request(_ask(HELLO), _config(CHATML))
    plain = TokenizeRequest(RequestId("r"), "m", "text")
    assert prepared_task(plain, _config(CHATML)) is plain


def test_a_system_prompt_keeps_the_tools() -> None:
    prompt = ChatInput(HELLO.messages, (Tool("look"),))
    prepared = prepared_request(_ask(prompt), _config(PromptTemplates(use_tokenizer_template=True, system_prompt="S")))
    assert isinstance(prepared.prompt, ChatInput)
    assert prepared.prompt.tools == prompt.tools
