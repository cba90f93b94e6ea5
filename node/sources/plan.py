"""What is to be fetched for one model reference (pure): files, their hashes, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from localai.mesh.secrets import Secret

Headers: TypeAlias = tuple[tuple[str, str | Secret[str]], ...]
"""Names and values of request headers. Secret values go to the host of the first address only."""

Role: TypeAlias = Literal["model", "projector", "archive", "other"]
"""``projector`` turns pictures into tokens; ``archive`` is to be unpacked."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file to fetch."""

    filename: str
    """Where it goes, relative to the models folder."""
    url: str
    sha256: str | None = None
    """Lower-case hex; None when the source does not say."""
    size: int | None = None
    """Bytes."""
    headers: Headers = ()
    role: Role = "model"


DownloadPlan: TypeAlias = tuple[PlannedFile, ...]
"""Files in the order in which to fetch them: the model first; of a model in parts, the first part."""


def bearer(token: Secret[str] | None) -> Headers:
    """The header that shows a token; none without one."""
    return (("Authorization", Secret(f"Bearer {token.reveal()}")),) if token else ()
