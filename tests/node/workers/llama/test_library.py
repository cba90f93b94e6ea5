from __future__ import annotations

from types import SimpleNamespace

import pytest

from localai.mesh.errors import SetupError
from localai.node.workers.llama.library import (
    EXPECTED_CONTEXT_DEFAULTS,
    EXPECTED_MODEL_DEFAULTS,
    check_structs,
    import_llama_cpp,
)


def library(**differences: object) -> SimpleNamespace:
    model = SimpleNamespace(**EXPECTED_MODEL_DEFAULTS)
    context = SimpleNamespace(**{**EXPECTED_CONTEXT_DEFAULTS, **differences})
    return SimpleNamespace(llama_model_default_params=lambda: model, llama_context_default_params=lambda: context)


def test_a_library_that_fills_in_what_we_expect_passes() -> None:
    check_structs(library())


@pytest.mark.parametrize("field", ["n_seq_max", "type_k", "kv_unified", "n_samplers"])
def test_one_shifted_field_is_noticed(field: str) -> None:
    with pytest.raises(SetupError, match="does not match") as caught:
        check_structs(library(**{field: 77}))
    assert field in caught.value.detail


@pytest.mark.e2e
def test_the_installed_library_matches() -> None:
    assert import_llama_cpp().llama_supports_rpc()
