"""What the lifecycle machine of a worker is told, and what it tells its shell to do (pure).

Both are closed unions. A command that does I/O names the event that answers it; see ``lifecycle.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from localai.mesh.errors import LocalAIError
from localai.node.inference import Progress, RequestId
from localai.node.workers.frames import Heartbeat, ModelFacts

# Events


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """Somebody wants an answer."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """The worker sent the terminal event of a request."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
    """The client left before the terminal event."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class PreloadRequested:
    """Load now, without a request."""


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """Free the memory. Active requests fail, and are told the reason."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The node stops."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process of this incarnation runs."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """The process speaks."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class LoadProgressed:
    """Part of the model is read."""

    incarnation: int
    per_mille: int


@dataclass(frozen=True, slots=True)
class LoadSucceeded:
    """The model is ready."""

    incarnation: int
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class LoadRejected:
    """The model cannot be loaded: the worker says so, or its file was unusable before one was started."""

    incarnation: int
    error: LocalAIError


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """The process lives."""

    incarnation: int
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Ended:
    """The process is gone, or could not be started."""

    incarnation: int
    description: str


@dataclass(frozen=True, slots=True)
class Woke:
    """The time of :meth:`Lifecycle.next_wakeup` has come."""


Event: TypeAlias = (
    RequestArrived
    | RequestEnded
    | RequestAbandoned
    | PreloadRequested
    | UnloadRequested
    | ShutdownRequested
    | Spawned
    | HelloReceived
    | LoadProgressed
    | LoadSucceeded
    | LoadRejected
    | HeartbeatReceived
    | Ended
    | Woke
)


# Commands


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process. Answered by Spawned or Ended."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class SendLoad:
    """Tell the process which model to load."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Hand the request to the worker."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class CancelWork:
    """Tell the worker to stop on this request."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Reject:
    """Give the request its terminal failure."""

    request_id: RequestId
    error: LocalAIError


@dataclass(frozen=True, slots=True)
class Report:
    """Tell a request how its wait goes on."""

    request_id: RequestId
    progress: Progress


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the process to exit."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process."""

    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that changes nothing, and why."""

    reason: str


Command: TypeAlias = Spawn | SendLoad | Admit | CancelWork | Reject | Report | Terminate | Kill | Ignored
