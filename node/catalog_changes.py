"""What a second look at the models folder found different (pure)."""

from __future__ import annotations

from dataclasses import dataclass

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


def _loading(config: ModelConfig) -> tuple[object, ...]:
    """What a worker is started with."""
    return config.backend, config.model_file, config.context_size, config.threads, config.slots
