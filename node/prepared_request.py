"""A request as the model's definition wants it: prompt templates and stop words (pure).

Done at the node that answers, so that its own definition holds for the requests of peers too. The node where the
request entered does not know these stop words, so they are taken out of the answer here as well.
"""

from __future__ import annotations

import msgspec

from localai.node.edit_prompt import edit_question, read_edit
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Finished,
    GenerateRequest,
    Prompt,
    Request,
    TextInput,
    TokenizeRequest,
    Tokens,
)
from localai.node.model_config import ModelConfig
from localai.node.prompt_templates import PromptTemplates, render_chat, render_completion, render_edit
from localai.node.prompt_turns import prompt_extras, prompt_messages
from localai.node.stop_strings import StopMatcher


def prepared_task(request: Request, config: ModelConfig) -> Request:
    """The request to give to the worker, whatever it asks for.

    Raises:
        BadTemplate: a template of the definition does not work on this request.
        InvalidRequest: a template needs the schema of a tool, which is no JSON object.
    """
    match request:
        case GenerateRequest():
            return prepared_request(request, config)
        case TokenizeRequest(prompt=prompt) if prompt is not None:
            generation = GenerateRequest(request.id, request.model, prompt)
            return msgspec.structs.replace(request, prompt=_prepared_prompt(generation, config.templates))
        case _:
            return request


def prepared_request(request: GenerateRequest, config: ModelConfig) -> GenerateRequest:
    """A generation to give to the worker. It raises what :func:`prepared_task` does."""
    prompt = _prepared_prompt(request, config.templates)
    stop = tuple(dict.fromkeys((*request.stop, *config.stopwords)))
    return msgspec.structs.replace(request, prompt=prompt, stop=stop)


def _prepared_prompt(request: GenerateRequest, templates: PromptTemplates | None) -> Prompt:
    prompt = request.prompt
    edit = read_edit(prompt) if isinstance(prompt, ChatInput) else None
    if edit is not None:
        prompt = edit_question(*edit)
    match prompt:
        case _ if edit is not None and templates is not None and templates.edit:
            prompt = TextInput(render_edit(templates, *edit))
        case ChatInput() if templates is not None and _renders_chats(templates):
            prompt = TextInput(render_chat(templates, prompt_messages(prompt), prompt_extras(request, prompt)))
        case ChatInput() if templates is not None and templates.system_prompt:
            prompt = _with_system_prompt(prompt, templates.system_prompt)
        case TextInput(text=text) if templates is not None and templates.completion:
            prompt = TextInput(render_completion(templates, text))
        case _:
            pass
    return prompt


def _renders_chats(templates: PromptTemplates) -> bool:
    return not templates.use_tokenizer_template and bool(templates.chat or templates.chat_message)


def _with_system_prompt(prompt: ChatInput, system_prompt: str) -> ChatInput:
    """The model's own template has no place for it but a message; one that the request brings counts instead."""
    if any(message.role == "system" for message in prompt.messages):
        return prompt
    return msgspec.structs.replace(prompt, messages=(ChatMessage("system", system_prompt), *prompt.messages))


class StopWordFilter:
    """Takes the stop words of a definition, and what comes after them, out of the events of one request."""

    def __init__(self, config: ModelConfig, choices: int) -> None:
        self._matchers = [StopMatcher(config.stopwords) for _ in range(choices)] if config.stopwords else []

    def feed(self, batch: list[Event]) -> list[Event]:
        """The events to pass on for the next ones; ids stay, bytes may come later."""
        if not self._matchers:
            return batch
        return [passed for event in batch for passed in self._feed(event)]

    def _feed(self, event: Event) -> list[Event]:
        match event:
            case Tokens(choice=choice) if 0 <= choice < len(self._matchers):
                scan = self._matchers[choice].feed(event.data)
                return [msgspec.structs.replace(event, data=scan.text)]
            case Finished():
                return [*self._held(), event]
            case _:
                return [event]

    def _held(self) -> list[Event]:
        rests = [(choice, matcher.flush()) for choice, matcher in enumerate(self._matchers)]
        return [Tokens(choice, (), rest) for choice, rest in rests if rest]
