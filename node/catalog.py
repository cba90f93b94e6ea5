"""Which models exist here: from what lies in the models folder to names that can be asked for (pure).

A definition (YAML) makes a model of its own name. A ``.gguf`` file that no definition names makes a model named
after the file without its ending. Files of equal rank are taken in name order, so the same folder always gives the
same models; when two define one name, the later one counts and a problem says so. An alias is one more name of
a model, and a disabled model is only a reason not to answer: neither is in :attr:`Catalog.models`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from localai.mesh.errors import Forbidden, InvalidRequest, LocalAIError, ModelLoadFailed
from localai.node.go_template.errors import BadTemplate
from localai.node.model_config import ModelConfig, NameInFile, Problem, no_name, parse_definitions
from localai.node.prompt_templates import PromptTemplates, check_templates, load_templates
from localai.node.usecase_reasons import usecase_reasons

_GGUF = ".gguf"
_LATER_PART = re.compile(r"-([0-9]{5})-of-([0-9]{5})(\.gguf)\Z", re.IGNORECASE)
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
    templates: Mapping[str, str] = field(default_factory=dict)
    """Name without its ending -> text of every ``.tmpl`` file that could be read."""
    config_file: tuple[str, str] | None = None
    """Name and text of a definition file from elsewhere; its definitions count last."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models of this node, sorted by name."""

    models: tuple[ModelConfig, ...] = ()
    problems: tuple[Problem, ...] = ()
    aliases: tuple[ModelConfig, ...] = ()
    """Further names, each for one of the models or for one that only a peer has; sorted by name."""
    disabled: tuple[ModelConfig, ...] = ()
    """Not answered by this node; sorted by name."""
    _called: Mapping[str, ModelConfig] = field(init=False, repr=False, compare=False)
    _aliased: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # every request asks several times, so both are looked up rather than searched
        object.__setattr__(self, "_called", _by_call(self.models))
        object.__setattr__(self, "_aliased", {alias.name: alias.alias for alias in self.aliases})

    def names(self) -> tuple[str, ...]:
        """All names that can be asked for, sorted."""
        return tuple(sorted(config.name for config in (*self.models, *self.aliases)))

    def target(self, name: str) -> str:
        """The name that ``name`` stands for: another one if it is an alias."""
        return self._aliased.get(name, name)

    def find(self, name: str) -> ModelConfig | None:
        """The model called ``name``, or that it is an alias of, or whose file is called so; None if there is none."""
        return self._called.get(self.target(name))

    def default(self, usecase: str) -> ModelConfig | None:
        """The first model for such requests; None when there is none."""
        return next((config for config in self.models if serves(config, usecase)), None)

    def resolve(self, name: str) -> ModelConfig:
        """The model to use for the name in a request; the first one for an empty name.

        Raises:
            InvalidRequest: there is no such model.
            Forbidden: it is disabled.
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
        target = self.target(name)
        disabled = _by_call(self.disabled)
        if name in disabled or target in disabled:
            message = f"The model '{name[:100]}' is disabled on this node. Ask for another one."
            return Forbidden(message, code="model_disabled", param="model")
        for problem in self.problems:
            if problem.model in (name, target):
                message = f"The definition of model '{name[:100]}' is broken: {problem.message}"
                return ModelLoadFailed(message, code="invalid_definition", param="model")
        shown = f"'{name[:100]}'" if target == name else f"'{target[:100]}', which '{name[:100]}' stands for,"
        message = (
            f"The model {shown} does not exist here. "
            "Call GET /v1/models to see what does, or add it to the models folder."
        )
        return InvalidRequest(message, code="model_not_found", param="model")


def serves(config: ModelConfig, usecase: str) -> bool:
    """Whether a model is for ``usecase``: what its definition says, or what is likely."""
    return usecase in usecase_reasons(config)


def catalog_from_listing(listing: FolderListing, name_in_file: NameInFile = no_name) -> Catalog:
    """The models that a folder makes. ``name_in_file`` names those whose definition does not."""
    problems = list(listing.problems)
    defined: list[ModelConfig] = []
    reserved: set[str] = set()
    unreadable = [problem.source for problem in problems if problem.source.lower().endswith((".yaml", ".yml"))]
    sources = [(source, listing.definitions[source]) for source in sorted(listing.definitions)]
    for source, text in [*sources, *([listing.config_file] if listing.config_file else [])]:
        definitions = parse_definitions(text, source, name_in_file)
        defined += definitions.models
        problems += definitions.problems
        reserved |= definitions.reserved
        unreadable += [] if definitions.is_readable else [source]
    by_name: dict[str, ModelConfig] = {}
    for config in defined:
        _add(by_name, config, problems)
    taken = reserved | {file for config in defined for file in (config.model_file, *config.companion_files)}
    bare: dict[str, ModelConfig] = {}
    for file in _bare_files(listing.files, taken):
        # which file a definition wants kept private cannot be told from one that nobody can read
        config = ModelConfig(name=file[: -len(_GGUF)], model_file=file, is_private=bool(unreadable))
        if config.name not in by_name:
            _add(bare, config, problems)
            continue
        message = f"{file} would be model '{config.name}', but a definition has that name. Ask for '{file}' instead."
        problems.append(Problem(file, message))
        bare[file] = replace(config, name=file)
    if unreadable and bare:
        message = f"Until {unreadable[0]} can be read, model files without a definition are not offered to others."
        problems.append(Problem(unreadable[0], message))
    return _sorted_out({**bare, **by_name}, listing.templates, problems)


def parts_of(file: str) -> tuple[str, ...]:
    """The names of all files that hold a model whose file is called so, in order: one, but for the first part of a
    split model."""
    part = _LATER_PART.search(file)
    if part is None or int(part[1]) != 1:
        return (file,)
    later = range(2, int(part[2]) + 1)
    return (file, *(f"{file[: part.start()]}-{number:05}-of-{part[2]}{part[3]}" for number in later))


def _sorted_out(found: Mapping[str, ModelConfig], templates: Mapping[str, str], problems: list[Problem]) -> Catalog:
    """What was found, by what it is good for."""
    models: list[ModelConfig] = []
    aliases: list[ModelConfig] = []
    disabled: list[ModelConfig] = []
    for name in sorted(found):
        config = found[name]
        if config.disabled:
            disabled.append(config)
        elif not config.alias:
            models += _with_templates(config, templates, problems)
        elif config.alias in found and found[config.alias].alias:
            message = f"{config.source} makes '{name}' an alias of an alias. Name the model itself in 'alias'."
            problems.append(Problem(config.source, message, name))
        else:
            aliases.append(config)
    return Catalog(tuple(models), tuple(problems), tuple(aliases), tuple(disabled))


def _with_templates(
    config: ModelConfig, templates: Mapping[str, str], problems: list[Problem]
) -> tuple[ModelConfig, ...]:
    """The model with the texts of its template files; none when one of them cannot be used."""
    loaded = load_templates(config.templates or PromptTemplates(), config.model_file, templates.get)
    if loaded == (config.templates or PromptTemplates()):
        return (config,)
    try:
        check_templates(loaded)
    except BadTemplate as error:
        source = config.source or config.model_file
        message = f"A template file of model '{config.name}' cannot be used: {error.message}"
        problems.append(Problem(source, message, config.name))
        return ()
    return (replace(config, templates=loaded),)


def _by_call(configs: Sequence[ModelConfig]) -> Mapping[str, ModelConfig]:
    """What each name means: the model of that name, else the first whose file has it."""
    by_file = {config.model_file: config for config in reversed(configs) if config.model_file}
    return by_file | {config.name: config for config in configs}


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
