from __future__ import annotations

from localai.node.edit_prompt import edit_prompt, edit_question, read_edit
from localai.node.inference import ChatInput, ChatMessage


def test_an_edit_is_recognised() -> None:
    assert read_edit(edit_prompt("Correct it.", "wat")) == ("Correct it.", "wat")
    hello = ChatMessage("user", "hi")
    for other in (ChatInput(()), ChatInput((hello,)), ChatInput((hello, hello)), edit_question("a", "b")):
        assert read_edit(other) is None


def test_an_edit_as_a_question() -> None:
    assert edit_question("Correct it.", "wat") == ChatInput((ChatMessage("user", "Correct it.\n\nwat"),))
    assert edit_question("Say hi.", "") == ChatInput((ChatMessage("user", "Say hi."),))
