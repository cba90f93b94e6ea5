from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.go_template.errors import BadTemplate, TemplateFailed
from localai.node.go_template.limits import MAX_OUTPUT_BYTES
from localai.node.go_template.template import Template


def test_one_template_many_renderings() -> None:
    template = Template("{{range .}}<{{.}}>{{else}}none{{end}}")
    assert [template.render(["a", 1]), template.render([]), template.render(None)] == ["<a><1>", "none", "none"]


def test_messages_call_it_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match=r"^The chat template fails at line 1, column 3: "):
        Template("{{nofunction}}", "The chat template")
    with pytest.raises(TemplateFailed, match=r"^The chat template fails at line 1, column 3: "):
        Template("{{.A.B}}", "The chat template").render({"A": 1})


@given(st.text().filter(lambda text: "{{" not in text))
def test_a_text_without_actions_is_itself(text: str) -> None:
    assert Template(text).render({"A": 1}) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_a_template_or_our_error(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for template in (text, f"{{{{{text}}}}}", f"{{{{.A {text}"):
        with suppress(BadTemplate):
            assert len(Template(template).render({"A": [1, "x"]}).encode()) <= MAX_OUTPUT_BYTES
