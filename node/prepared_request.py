"""A request as the model's definition wants it: prompt templates and stop words (pure).

Done at the node that answers, so that its own definition holds for the requests of peers too. The node where the
request entered does not know these stop words, so they are taken out of the answer here as well.
"""

from __future__ import annotations

import msgspec

from localai.node.inference import ChatInput, ChatMessage, Finished, GenerateEvent, GenerateRequest, TextInput, Tokens
from localai.node.model_config import ModelConfig
from localai.node.prompt_templates import PromptTemplates, render_chat, render_completion
from localai.node.stop_strings import StopMatcher


def prepared_request(request: GenerateRequest, config: ModelConfig) -> GenerateRequest:
    """The request to give to the worker.

    Raises:
        BadTemplate: a template of the definition does not work on this request.
    """
    prompt = request.prompt
    templates = config.templates
    match prompt:
        case ChatInput(messages=messages) if templates is not None and _renders_chats(templates):
            prompt = TextInput(render_chat(templates, messages))
        case ChatInput(messages=messages) if templates is not None and templates.system_prompt:
            prompt = _with_system_prompt(messages, templates.system_prompt)
        case TextInput(text=text) if templates is not None and templates.completion:
            prompt = TextInput(render_completion(templates, text))
        case _:
            pass
    stop = tuple(dict.fromkeys((*request.stop, *config.stopwords)))
    return msgspec.structs.replace(request, prompt=prompt, stop=stop)


def _renders_chats(templates: PromptTemplates) -> bool:
    return not templates.use_tokenizer_template and bool(templates.chat or templates.chat_message)


def _with_system_prompt(messages: tuple[ChatMessage, ...], system_prompt: str) -> ChatInput:
    """The model's own template has no place for it but a message; one that the request brings counts instead."""
    if any(message.role == "system" for message in messages):
        return ChatInput(messages)
    return ChatInput((ChatMessage("system", system_prompt), *messages))


class StopWordFilter:
    """Takes the stop words of a definition, and what comes after them, out of the events of one request."""

    def __init__(self, config: ModelConfig, choices: int) -> None:
        self._matchers = [StopMatcher(config.stopwords) for _ in range(choices)] if config.stopwords else []

    def feed(self, batch: list[GenerateEvent]) -> list[GenerateEvent]:
        """The events to pass on for the next ones; ids stay, bytes may come later."""
        if not self._matchers:
            return batch
        return [passed for event in batch for passed in self._feed(event)]

    def _feed(self, event: GenerateEvent) -> list[GenerateEvent]:
        match event:
            case Tokens(choice=choice) if 0 <= choice < len(self._matchers):
                scan = self._matchers[choice].feed(event.data)
                return [Tokens(choice, event.ids, scan.text)]
            case Finished():
                return [*self._held(), event]
            case _:
                return [event]

    def _held(self) -> list[GenerateEvent]:
        rests = [(choice, matcher.flush()) for choice, matcher in enumerate(self._matchers)]
        return [Tokens(choice, (), rest) for choice, rest in rests if rest]
