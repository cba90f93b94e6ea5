"""OpenAI's former edits: a text, and what to change about it (pure).

Source: LocalAI's documentation. Answers look like text completions, and may be streamed as these.
"""

from __future__ import annotations

from localai.api.dialects.completions import MAX_PROMPTS, TextForm, one_per_prompt
from localai.api.dialects.generation import read_generation
from localai.api.schemas.openai_requests import EditBody
from localai.mesh.errors import InvalidRequest
from localai.node.edit_prompt import edit_prompt
from localai.node.inference import GenerateRequest, Prompt, RequestId
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults


def parse_edit(
    body: EditBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> tuple[GenerateRequest, ...]:
    """The requests a body stands for, one per text; what it does not say is as in ``defaults``.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that nothing here can do.
    """
    if not body.instruction:
        raise InvalidRequest("'instruction' is empty. Say what to change about 'input'.", param="instruction")
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 1 <= len(texts) <= MAX_PROMPTS:
        raise InvalidRequest(f"'input' has {len(texts)} texts; 1 to {MAX_PROMPTS} are allowed.", param="input")
    prompts: list[Prompt] = [edit_prompt(body.instruction, text) for text in texts]
    return one_per_prompt(read_generation(body, request_id, model, prompts[0], defaults), prompts)


def edit_form(requests: tuple[GenerateRequest, ...]) -> TextForm:
    """How the answer is shown."""
    return TextForm("edit", shown=requests[0].choices, drawn=requests[0].choices)
