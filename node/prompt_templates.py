"""Prompt templates of a model: messages -> the text the model continues (pure).

For models that bring no chat template of their own, or whose definition overrides it. Each message is rendered with
``chat_message``, the results are joined, and ``chat`` is rendered around them. Fields and fallbacks are LocalAI's, with
one exception: a template with a syntax error is reported, and so is one of ``chat``, ``function``, ``completion`` and
``edit`` that fails. LocalAI quietly sends the bare text then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from localai.node.go_template.errors import TemplateFailed
from localai.node.go_template.json_text import json_text
from localai.node.go_template.limits import Budget
from localai.node.go_template.template import Template
from localai.node.go_template.values import Field, Record, Value
from localai.node.inference import ChatMessage

LoadTemplate = Callable[[str], str | None]
"""Base name, without ``.tmpl`` -> text of that file in the models path; None if there is none."""

CALLING_ROLE = "assistant_function_call"
"""Role of an assistant message that calls tools, if ``roles`` has a text for it."""
_MAX_FILE_NAME_CHARS = 200
_PARSED_KEPT = 64


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """What a model's definition says about prompts. Empty templates are not set."""

    chat: str = ""
    chat_message: str = ""
    completion: str = ""
    edit: str = ""
    function: str = ""
    """Used instead of ``chat`` when there are tools."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Role -> its text in prompts."""
    join: str = "\n"
    """Between two messages."""
    use_tokenizer_template: bool = False
    """The worker renders conversations with the model's own template: nobody calls :func:`render_chat` then."""
    system_prompt: str = ""


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """A message with what :class:`ChatMessage` does not carry."""

    role: str
    content: str
    name: str = ""
    calls: Value = None
    """The function call of an assistant message, or the list of them; empty or None without."""


@dataclass(frozen=True, slots=True)
class PromptFunction:
    """A tool the model may call. ``parameters`` is its JSON schema, its numbers floats as Go reads them."""

    name: str
    description: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class PromptExtras:
    """What a request adds to its messages."""

    functions: tuple[PromptFunction, ...] = ()
    grammar: bool = False
    """A grammar will hold the answer in form."""
    reasoning_effort: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_templates(templates: PromptTemplates, model_file: str, load: LoadTemplate) -> PromptTemplates:
    """``templates`` with file names replaced by what the files hold.

    A template that is the base name of a ``.tmpl`` file means that file. Where no template is set, the file named like
    the model file is used, if there is one.
    """
    beside_model = _loaded(model_file, load) or ""
    return replace(
        templates,
        chat=_text(templates.chat, load) or beside_model,
        completion=_text(templates.completion, load) or beside_model,
        edit=_text(templates.edit, load) or beside_model,
        function=_text(templates.function, load),
        chat_message=_text(templates.chat_message, load),
    )


def check_templates(templates: PromptTemplates) -> None:
    """Make sure that all of them are valid.

    Raises:
        BadTemplate: the first that is not; the message names it.
    """
    for name in ("chat", "chat_message", "completion", "edit", "function"):
        _template(getattr(templates, name), name)


_NO_EXTRAS = PromptExtras()


def render_chat(
    templates: PromptTemplates, messages: Sequence[ChatMessage | PromptMessage], extras: PromptExtras = _NO_EXTRAS
) -> str:
    """The prompt for a conversation.

    A message whose template gives nothing is left out. One whose template fails, or all when there is none, are the
    text of their role and their content; if that is the system's, the templates are told not to add their own.

    Raises:
        BadTemplate: ``chat`` or ``function`` fails, or any template is not valid or goes over a limit.
    """
    rendered: list[str] = []
    has_system_message = False
    for position, message in enumerate(messages):
        whole = message if isinstance(message, PromptMessage) else PromptMessage(message.role, message.content)
        role = CALLING_ROLE if _calls(whole, templates) else whole.role
        last = position == len(messages) - 1
        text = _with_template(templates, whole, role, position, grammar=extras.grammar and last, last=last)
        if text is None:
            text = _without_template(templates, whole, role)
            has_system_message |= role == "system" and whole.content != ""
        elif not text:
            continue
        rendered.append(text)
    use_function = bool(extras.functions and templates.function)
    return _render_prompt(
        templates.function if use_function else templates.chat,
        "function" if use_function else "chat",
        _prompt_data(templates, templates.join.join(rendered), extras, suppress_system_prompt=has_system_message),
    )


def render_completion(templates: PromptTemplates, text: str) -> str:
    """The prompt that continues ``text``.

    Raises:
        BadTemplate: the template fails, is not valid or goes over a limit.
    """
    return _render_prompt(templates.completion, "completion", _prompt_data(templates, text))


def render_edit(templates: PromptTemplates, instruction: str, text: str) -> str:
    """The prompt that changes ``text`` as ``instruction`` says.

    Raises:
        BadTemplate: the template fails, is not valid or goes over a limit.
    """
    return _render_prompt(templates.edit, "edit", _prompt_data(templates, text, instruction=instruction))


def _text(template: str, load: LoadTemplate) -> str:
    loaded = _loaded(template, load)
    return template if loaded is None else loaded


def _loaded(name: str, load: LoadTemplate) -> str | None:
    """The file's text, asking only for what can be a file inside the models path."""
    plausible = (
        0 < len(name) <= _MAX_FILE_NAME_CHARS
        and name.isprintable()
        and "{{" not in name
        and "\\" not in name
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )
    return load(name) if plausible else None


@lru_cache(maxsize=_PARSED_KEPT)
def _template(text: str, name: str) -> Template:
    return Template(text, f"The {name} template")


def _calls(message: PromptMessage, templates: PromptTemplates) -> bool:
    return bool(message.calls and message.role == "assistant" and templates.roles.get(CALLING_ROLE))


def _with_template(
    templates: PromptTemplates, message: PromptMessage, role: str, position: int, *, grammar: bool, last: bool
) -> str | None:
    """None when there is no template or it fails on this message."""
    if not templates.chat_message:
        return None
    data = _record(
        SystemPrompt=templates.system_prompt,
        Role=templates.roles.get(role, ""),
        RoleName=role,
        FunctionName=message.name,
        Content=message.content,
        MessageIndex=position,
        Function=grammar,
        FunctionCall=message.calls or None,
        LastMessage=last,
    )
    try:
        return _template(templates.chat_message, "chat_message").render(data)
    except TemplateFailed:
        return None


def _without_template(templates: PromptTemplates, message: PromptMessage, role: str) -> str:
    role_text = templates.roles.get(role, "")
    lines = [role_text + message.content] if message.content else []
    if message.calls:
        calls = json_text(message.calls, Budget())
        lines.append(f"{role_text} {calls}" if role_text else calls)
    return "\n".join(lines)


def _prompt_data(
    templates: PromptTemplates,
    text: str,
    extras: PromptExtras = _NO_EXTRAS,
    *,
    instruction: str = "",
    suppress_system_prompt: bool = False,
) -> Record:
    return _record(
        SystemPrompt=templates.system_prompt,
        SuppressSystemPrompt=suppress_system_prompt,
        Input=text,
        Instruction=instruction,
        Functions=[_function(function) for function in extras.functions],
        MessageIndex=0,
        ReasoningEffort=extras.reasoning_effort,
        Metadata=extras.metadata,
    )


def _function(function: PromptFunction) -> Record:
    return Record(
        (
            Field("Name", function.name, "name"),
            Field("Description", function.description, "description"),
            Field("Strict", function.strict, "strict"),
            Field("Parameters", function.parameters, "parameters"),
        )
    )


def _record(**values: Value) -> Record:
    return Record(tuple(Field(name, value, name) for name, value in values.items()))


def _render_prompt(template: str, name: str, data: Record) -> str:
    return _template(template, name).render(data) if template else str(data.get("Input"))
