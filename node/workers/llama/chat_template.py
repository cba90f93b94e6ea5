"""Rendering a conversation with the chat template a model brings along (pure).

Templates come with model files, so they are untrusted: Jinja2's immutable sandbox, and nothing but the variables
below. Source for names and filters: what chat templates in GGUF files use (messages, add_generation_prompt, bos_token,
eos_token, raise_exception, strftime_now, tojson, loop controls).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NoReturn

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localai.mesh.errors import InvalidRequest
from localai.node.inference import ChatMessage


class ChatTemplate:
    """One compiled template.

    Raises:
        InvalidRequest: on construction, when the template is not valid Jinja.
    """

    def __init__(self, source: str, bos: str, eos: str, strftime_now: Callable[[str], str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = strftime_now
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # the template is code from outside: whatever it raises is its fault
            raise InvalidRequest(
                "The chat template inside this model is broken. Use /v1/completions, or another copy of the model.",
                code="bad_chat_template",
                detail=repr(error),
            ) from error
        self._bos = bos
        self._eos = eos
        self.id = hashlib.sha256(source.encode()).hexdigest()[:16]

    def render(self, messages: tuple[ChatMessage, ...]) -> str:
        """The prompt text, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: the template refuses this conversation, or fails on it.
        """
        try:
            return self._template.render(
                messages=[{"role": message.role, "content": message.content} for message in messages],
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
            )
        except _Refused as refusal:
            message = f"This model's chat template refuses the conversation: {refusal.reason}"
            raise InvalidRequest(message[:500], param="messages") from refusal
        except Exception as error:  # as above
            message = "This model's chat template fails on the conversation. Try plain user and assistant turns."
            raise InvalidRequest(message, param="messages", detail=repr(error)[:300]) from error


class _Refused(Exception):
    """The template called ``raise_exception``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _raise_exception(reason: str) -> NoReturn:
    raise _Refused(str(reason))


def _to_json(value: Any, indent: int | None = None) -> str:  # Any: whatever the template passes
    return json.dumps(value, ensure_ascii=False, indent=indent)
