"""The command ``localai util usecase-heuristic`` (shell)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

from localai.mesh.errors import LocalAIError, ModelLoadFailed
from localai.node.catalog import Catalog
from localai.node.gallery.galleries import read_local_text
from localai.node.gallery.references import installed, not_found
from localai.node.model_config import Definitions, ModelConfig, parse_definitions
from localai.node.models_folder import read_catalog
from localai.node.options import UsageError, Values
from localai.node.sources.gguf_metadata import MAX_FRONT_BYTES, GgufFront, parse_gguf_front
from localai.node.usecase_reasons import file_remark, usecase_reasons

_DEFINITION_ENDINGS = (".yaml", ".yml")


def print_usecases(values: Values, configs: Sequence[str]) -> int:
    """Print what each model is for and why; 1 if one cannot be read.

    ``configs`` are paths of definitions or names of models that are here; none means all that are here.

    Raises:
        SetupError: the models folder cannot be read.
    """
    path = values["models_path"]
    if not isinstance(path, PurePath):
        raise UsageError("--models-path must name a directory, it cannot be empty")
    models_path = Path(path)
    if not configs:
        catalog = read_catalog(models_path)
        found = Definitions(catalog.models, catalog.problems)
        return _print(found, models_path) if found.models or found.problems else _nothing(models_path)
    code = 0
    for text in configs:
        try:
            code = max(code, _print(_definitions(text, models_path), models_path))
        except LocalAIError as error:
            code = _complain(error.message)
    return code


def _definitions(text: str, models_path: Path) -> Definitions:
    """What a path or a name means.

    Raises:
        LocalAIError: it cannot be read, or nothing has that name.
    """
    path = Path(text).expanduser()
    if text.lower().endswith(_DEFINITION_ENDINGS) or path.is_file():
        return parse_definitions(read_local_text(path), path.name)
    catalog = read_catalog(models_path) if models_path.is_dir() else Catalog()
    config = installed(text, catalog)
    if config is None:
        raise not_found(text)
    return Definitions((config,))


def _print(found: Definitions, models_path: Path) -> int:
    for config in found.models:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(config, models_path)))
    code = 0
    for problem in found.problems:
        code = max(code, _complain(problem.message) if problem.model or not found.models else _warn(problem.message))
    return code


def _lines(config: ModelConfig, models_path: Path) -> list[str]:
    lines = [f"{config.name} ({config.source or config.model_file})"]
    if config.alias:
        return [*lines, f"  an alias: what '{config.alias}' is for"]
    lines += [f"  {usecase:18}  {reason}" for usecase, reason in usecase_reasons(config).items()]
    if (front := _front(models_path / config.model_file)) is not None:
        lines.append(f"  {file_remark(config, front)}")
    return lines


def _front(path: Path) -> GgufFront | None:
    """What a GGUF file says of itself; None for anything else."""
    try:
        with path.open("rb") as file:
            return parse_gguf_front(file.read(MAX_FRONT_BYTES), path.stat().st_size, path.name)
    except (OSError, ModelLoadFailed):
        return None


def _nothing(models_path: Path) -> int:
    print(f"There are no models in {models_path}.")
    return 0


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _warn(message: str) -> int:
    print(f"warning: {message}", file=sys.stderr)
    return 0
