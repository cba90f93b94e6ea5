from __future__ import annotations

from localai.node.effective_options import EffectiveOption, Source, effective_options
from localai.node.options import Kind, Option


def row(name: str) -> Option:
    return Option(f"--{name}", Kind.STR, "Help.", env=(name.upper(),))


def test_each_option_knows_who_gave_it() -> None:
    rows = [row(name) for name in ("flag", "env", "file", "default", "both")]
    values = {option.key: option.key for option in rows}
    environ = {"ENV": "x", "FILE": "x", "BOTH": "x"}
    found = effective_options(rows, values, {"flag": ("x",), "both": ("x",)}, environ, {"FILE"})
    sources = (Source.FLAG, Source.ENV, Source.FILE, Source.DEFAULT, Source.FLAG)
    assert found == tuple(
        EffectiveOption(option, option.key, source) for option, source in zip(rows, sources, strict=True)
    )
