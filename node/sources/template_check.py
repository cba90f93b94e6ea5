"""The look at a chat template before it is ever rendered (pure).

Templates run in a sandbox (``workers/llama/chat_template.py``). This is the second wall: an honest template formats
messages, so one that reaches for the insides of Python was made to break out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import loopcontrols

from localai.node.sources.safety import Finding, Severity

MAX_TEMPLATE_BYTES = 256 << 10
_INSIDE = re.compile(r"__\w*")
_INSIDE_NAMES = frozenset(
    {
        *("mro", "func_globals", "func_code", "func_closure", "im_class", "im_func", "im_self"),
        *("gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code", "tb_frame"),
        *("f_back", "f_builtins", "f_code", "f_globals", "f_locals", "co_code", "co_consts"),
        *("environ", "popen", "subprocess", "builtins"),
    }
)
_GENERATION_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")

_SENTENCES: dict[Severity, str] = {
    "refuse": "The {name} reaches for the insides of Python ({shown}), as if to break out.",
    "warn": "The {name} has texts that look like names from the insides of Python ({shown}).",
}


def template_findings(source: str, name: str) -> tuple[Finding, ...]:
    """What is wrong with a template; ``name`` is how to call it, such as ``chat template of 'x'``."""
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_TEMPLATE_BYTES:
        return (Finding("refuse", f"The {name} has {size} bytes; no more than {MAX_TEMPLATE_BYTES} are accepted."),)
    source = _GENERATION_TAG.sub("", source)  # marks answers for training; engines ignore it
    try:
        tree = Environment(extensions=[loopcontrols], autoescape=False).parse(source)
        found = sorted(set(_suspects(tree)))
    except (TemplateSyntaxError, ValueError) as error:  # the latter: a number of thousands of digits
        # what cannot be parsed is never rendered, but its text may still tell what it was meant for
        found = sorted({("refuse", each) for each in _INSIDE.findall(source) if each.endswith("__") and len(each) > 4})
        if not found:
            return (Finding("warn", f"The {name} is not valid Jinja: {str(error).splitlines()[0][:200].rstrip('.')}."),)
    except RecursionError:
        return (Finding("refuse", f"The {name} is nested too deeply."),)
    if not found:
        return ()
    severity = min(each for each, _ in found)  # "refuse" sorts before "warn"
    shown = ", ".join([_printable(text) for each, text in found if each == severity][:5])
    return (Finding(severity, _SENTENCES[severity].format(name=name, shown=shown)),)


def _suspects(tree: nodes.Template) -> Iterator[tuple[Severity, str]]:
    """What no honest template needs. Plain text between tags is not looked at."""
    for node in _all_nodes(tree):
        match node:
            case nodes.Getattr(attr=name) | nodes.Name(name=name) if _is_inside(name):
                yield "refuse", name
            case nodes.Getitem(arg=nodes.Const(value=str() as name)) if _is_inside(name):
                yield "refuse", name
            case nodes.Keyword(key="attribute", value=nodes.Const(value=str() as path)) if _has_inside(path):
                yield "refuse", path
            case nodes.Filter(name="attr"):
                yield "refuse", "|attr"
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                yield "refuse", type(node).__name__.lower()
            case nodes.Const(value=str() as text) if _is_inside(text.strip()):
                yield "warn", text.strip()


def _all_nodes(tree: nodes.Node) -> Iterator[nodes.Node]:
    """Every node, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.iter_child_nodes()


def _is_inside(name: str) -> bool:
    """True for ``__anything``, also in halves such as ``__cla``, and for names of Python's insides."""
    return _INSIDE.fullmatch(name) is not None or name.endswith("__") or name in _INSIDE_NAMES


def _has_inside(path: str) -> bool:
    return any(_is_inside(part) for part in path.split("."))


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:60]
