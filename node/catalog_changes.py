"""What a second look at the models folder found different (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class CatalogChanges:
    """Names of models, sorted. Aliases and disabled models are none."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Their definition is another one."""
    outdated: tuple[str, ...] = ()
    """Those of :attr:`changed` whose worker was started for something else: it has to be unloaded."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def changes(before: Catalog, after: Catalog) -> CatalogChanges:
    """What has to be done about models to get from one catalogue to the next."""
    old = {config.name: config for config in before.models}
    new = {config.name: config for config in after.models}
    changed = sorted(name for name in new.keys() & old.keys() if new[name] != old[name])
    return CatalogChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(changed),
        outdated=tuple(name for name in changed if _loading(new[name]) != _loading(old[name])),
    )


def with_last_good(before: Catalog, after: Catalog) -> Catalog:
    """``after``, with the models of ``before`` whose definition can no longer be used, as they were.

    Somebody is editing it: what worked goes on working until the file is right again, or gone.
    """
    readable = {config.source for config in (*after.models, *after.aliases, *after.disabled)}
    broken = {problem.model for problem in after.problems}
    unreadable = {problem.source for problem in after.problems} - readable
    kept = {config.name: config for config in before.models if config.source in unreadable or config.name in broken}
    for config in (*after.models, *after.aliases, *after.disabled):
        if config.source:
            kept.pop(config.name, None)
    files = {config.model_file for config in kept.values()}
    models = {config.name: config for config in after.models if config.source or config.model_file not in files}
    return replace(after, models=tuple(config for _, config in sorted((models | kept).items())))


def _loading(config: ModelConfig) -> tuple[object, ...]:
    """What a worker is started with."""
    return config.backend, config.model_file, config.context_size, config.threads, config.slots
