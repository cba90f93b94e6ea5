"""Which models exist here: from what lies in the models folder to names that can be asked for (pure).

A definition (YAML) makes a model of its own name. A ``.gguf`` file that no definition names makes a model named
after the file without its ending. Files of equal rank are taken in name order, so the same folder always gives the
same models; when two define one name, the later one counts and a problem says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from localai.mesh.errors import InvalidRequest, LocalAIError, ModelLoadFailed
from localai.node.model_config import ModelConfig, Problem, parse_definitions

_GGUF = ".gguf"
_LATER_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf\Z", re.IGNORECASE)
_PROJECTOR = re.compile(r"(?:\A|[-_.])mmproj(?:[-_.]|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """What was seen at the top level of a models folder."""

    files: Mapping[str, int] = field(default_factory=dict)
    """Name -> size in bytes, of regular files."""
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Name -> text of every ``.yaml`` and ``.yml`` file that could be read."""
    problems: tuple[Problem, ...] = ()
    """What could not be looked at."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models of this node, sorted by name."""

    models: tuple[ModelConfig, ...] = ()
    problems: tuple[Problem, ...] = ()

    def find(self, name: str) -> ModelConfig | None:
        """The model called ``name``, or whose model file is called so; None when there is none."""
        for config in self.models:
            if config.name == name:
                return config
        return next((config for config in self.models if name and config.model_file == name), None)

    def resolve(self, name: str) -> ModelConfig:
        """The model to use for the name in a request; the first one for an empty name.

        Raises:
            InvalidRequest: there is no such model.
            ModelLoadFailed: its definition is broken.
        """
        config = self.find(name) if name else next(iter(self.models), None)
        if config is None:
            raise self._missing(name)
        return config

    def _missing(self, name: str) -> LocalAIError:
        if not name:
            return InvalidRequest(
                "There is no model here. Add a .gguf file or a definition to the models folder and start again.",
                code="model_not_found",
                param="model",
            )
        for problem in self.problems:
            if problem.model == name:
                message = f"The definition of model '{name[:100]}' is broken: {problem.message}"
                return ModelLoadFailed(message, code="invalid_definition", param="model")
        message = (
            f"The model '{name[:100]}' does not exist here. "
            "Call GET /v1/models to see what does, or add it to the models folder."
        )
        return InvalidRequest(message, code="model_not_found", param="model")


def catalog_from_listing(listing: FolderListing) -> Catalog:
    """The models that a folder makes."""
    problems = list(listing.problems)
    defined: list[ModelConfig] = []
    for source in sorted(listing.definitions):
        definitions = parse_definitions(listing.definitions[source], source)
        defined += definitions.models
        problems += definitions.problems
    by_name: dict[str, ModelConfig] = {}
    for config in defined:
        _add(by_name, config, problems)
    taken = {file for config in defined for file in (config.model_file, *config.companion_files)}
    bare: dict[str, ModelConfig] = {}
    for file in _bare_files(listing.files, taken):
        config = ModelConfig(name=file[: -len(_GGUF)], model_file=file)
        if config.name not in by_name:
            _add(bare, config, problems)
            continue
        message = f"{file} would be model '{config.name}', but a definition has that name. Ask for '{file}' instead."
        problems.append(Problem(file, message))
        bare[file] = ModelConfig(name=file, model_file=file)
    found = {**bare, **by_name}
    return Catalog(tuple(found[name] for name in sorted(found)), tuple(problems))


def _add(models: dict[str, ModelConfig], config: ModelConfig, problems: list[Problem]) -> None:
    """Put ``config`` in; an earlier one of its name gives way."""
    earlier = models.get(config.name)
    if earlier is not None:
        used, unused = config.source or config.model_file, earlier.source or earlier.model_file
        message = f"Model '{config.name}' is defined twice: {used} is used, {unused} is not. Rename one of them."
        problems.append(Problem(unused, message))
    models[config.name] = config


def _bare_files(files: Iterable[str], taken: set[str]) -> list[str]:
    """Model files of their own: no hidden ones, no later parts of a split model, no image projectors."""
    return [
        file
        for file in sorted(files)
        if file.lower().endswith(_GGUF)
        and len(file) > len(_GGUF)
        and not file.startswith(".")
        and file not in taken
        and not ((part := _LATER_PART.search(file)) and int(part[1]) > 1)
        and not _PROJECTOR.search(file[: -len(_GGUF)])
    ]
