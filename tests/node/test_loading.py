from __future__ import annotations

from pathlib import Path

import pytest

from localai.mesh.errors import Unsupported
from localai.node.loading import DEFAULT_SLOTS, check_backend, default_threads, load_frame
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import Settings

BARE = ModelConfig("m", "sub/m.gguf")


def settings(**changes: int) -> Settings:
    return Settings(Address("127.0.0.1", 8080), Path("/models"), Path("/data"), **changes)  # type: ignore[arg-type]  # the tests name real fields


def test_without_any_wish_the_machine_decides() -> None:
    load = load_frame(BARE, settings(), cores=8)
    assert load.model_path == "/models/sub/m.gguf"
    assert (load.context_size, load.slots, load.threads) == (0, DEFAULT_SLOTS, 7)


def test_settings_of_the_node_count_where_the_model_says_nothing() -> None:
    load = load_frame(BARE, settings(threads=3, context_size=1000), cores=8)
    assert (load.context_size, load.threads) == (1000, 3)


def test_the_definition_wins() -> None:
    config = ModelConfig("m", "m.gguf", context_size=512, threads=2, slots=16)
    load = load_frame(config, settings(threads=3, context_size=1000), cores=8)
    assert (load.context_size, load.slots, load.threads) == (512, 16, 2)


def test_the_trained_maximum_is_left_to_the_model() -> None:
    assert load_frame(BARE, settings(context_size=-1), cores=1).context_size == -1
    assert load_frame(BARE, settings(context_size=-5), cores=1).context_size == -1


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_one_core_stays_free(cores: int, threads: int) -> None:
    assert default_threads(cores) == threads


def test_a_backend_that_is_not_here_is_named() -> None:
    check_backend(BARE, frozenset({"llama-cpp"}))
    with pytest.raises(Unsupported, match=r"'vllm'.*llama-cpp"):
        check_backend(ModelConfig("m", "m", backend="vllm"), frozenset({"llama-cpp"}))
