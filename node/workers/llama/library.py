"""Finding libllama and making sure that it is the one the ctypes layer was written for (shell).

``scripts/setup`` puts a lean build under ``share/localai/libllama`` of the environment. ``LLAMA_CPP_LIB_PATH``
overrides it; without both, llama-cpp-python's own library is used.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from localai.mesh.errors import SetupError

ENVIRONMENT_NAME = "LLAMA_CPP_LIB_PATH"

EXPECTED_MODEL_DEFAULTS: dict[str, Any] = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}
EXPECTED_CONTEXT_DEFAULTS: dict[str, Any] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "rope_freq_base": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_beta_slow": -1.0,
    "yarn_orig_ctx": 0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
    "ctx_other": None,
}


def import_llama_cpp() -> Any:  # Any: an untyped library
    """The ctypes layer, on the right library, checked.

    Raises:
        SetupError: there is no library, or its structs are not laid out as the ctypes layer believes.
    """
    lean = Path(sys.prefix, "share", "localai", "libllama")
    if not os.environ.get(ENVIRONMENT_NAME) and lean.is_dir():
        os.environ[ENVIRONMENT_NAME] = str(lean)
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError, FileNotFoundError) as error:
        message = "llama.cpp's library could not be loaded. Run scripts/setup again to build it."
        raise SetupError(message, detail=repr(error)) from error
    check_structs(llama_cpp)
    return llama_cpp


def check_structs(llama_cpp: Any) -> None:  # Any: an untyped library
    """Compare what the library fills in with what the fields should say.

    One inserted field upstream shifts all that follow; writing through such a struct corrupts memory silently.

    Raises:
        SetupError: a field differs.
    """
    for structure, expected in (
        (llama_cpp.llama_model_default_params(), EXPECTED_MODEL_DEFAULTS),
        (llama_cpp.llama_context_default_params(), EXPECTED_CONTEXT_DEFAULTS),
    ):
        for name, value in expected.items():
            if getattr(structure, name) != value:
                raise SetupError(
                    "llama.cpp's library does not match the installed llama-cpp-python. "
                    f"Run scripts/setup again, and unset {ENVIRONMENT_NAME} if you set it.",
                    detail=f"{type(structure).__name__}.{name} is {getattr(structure, name)!r}, expected {value!r}",
                )
