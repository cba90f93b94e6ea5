from __future__ import annotations

import pytest

from localai.mesh.errors import InvalidRequest
from localai.node.inference import ChatMessage
from localai.node.workers.llama.chat_template import ChatTemplate

TURNS = (ChatMessage("system", "Be kind."), ChatMessage("user", "Hi <b>"))


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, "<s>", "</s>", lambda layout: f"date:{layout}")


def test_roles_content_and_markers() -> None:
    text = template(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    ).render(TURNS)
    assert text == "<s>[system]Be kind.</s>[user]Hi <b></s>[assistant]"


def test_what_templates_in_the_wild_use() -> None:
    source = (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{{ strftime_now('%d') }}"
    )
    assert template(source).render(TURNS) == '{"role": "user", "content": "Hi <b>"}date:%d'


def test_a_template_may_refuse_and_its_words_reach_the_client() -> None:
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        template("{{ raise_exception('roles must alternate') }}").render(TURNS)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[99].content.x }}",
        "{{ messages + 1 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ nothing() }}",
        "{{ 1 // 0 }}",
        "{{ '{x}'.format() }}",
        "{{ [].pop() }}",
    ],
)
def test_failing_and_hostile_templates_are_a_clear_error(source: str) -> None:
    with pytest.raises(InvalidRequest):
        template(source).render(TURNS)


def test_a_broken_template_is_refused_when_it_is_read() -> None:
    for source in ("{% if %}", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"):
        with pytest.raises(InvalidRequest, match="broken"):
            template(source)


def test_the_id_belongs_to_the_source() -> None:
    assert template("a").id == template("a").id != template("b").id
