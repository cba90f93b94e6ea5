"""A text to change, and how, on its way to the node that answers (pure).

It travels as a conversation with a turn of a role that no client has. The node that answers knows the model's
definition, and turns it into the ``edit`` template's text or into a question that any chat model understands.
"""

from __future__ import annotations

from localai.node.inference import ChatInput, ChatMessage

EDIT_ROLE = "localai:edit"


def edit_prompt(instruction: str, text: str) -> ChatInput:
    """The prompt that stands for changing ``text`` as ``instruction`` says."""
    return ChatInput((ChatMessage(EDIT_ROLE, instruction), ChatMessage("user", text)))


def read_edit(prompt: ChatInput) -> tuple[str, str] | None:
    """Instruction and text; None for any other conversation."""
    match prompt.messages:
        case (ChatMessage(role=role, content=instruction), ChatMessage(content=text)) if role == EDIT_ROLE:
            return instruction, text
        case _:
            return None


def edit_question(instruction: str, text: str) -> ChatInput:
    """The same as a question to a chat model. One turn, since not every template has a place for a system's."""
    return ChatInput((ChatMessage("user", f"{instruction}\n\n{text}" if text else instruction),))
