"""The frames between a node and one of its workers, and later between two nodes (pure).

    node                        worker
      <- Hello                    once, first: which engine this is
      -> Load                     once
      <- LoadProgress*            per mille
      <- Loaded | LoadFailed      LoadFailed is followed by exit
      -> Ask, Cancel              any number, interleaved
      <- Events                   one frame per engine step for all requests of that step
      <- Heartbeat                every :data:`HEARTBEAT_S` seconds, also during a load or a long step

End of stream from the node tells the worker to exit: unloading a model is ending its process.
A Cancel for an unknown or ended request is ignored; a cancelled request gets no further events.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from localai.mesh.wire import FrameCodec
from localai.node.inference import Event, Failed, Request, RequestId

FRAMES_VERSION = 1
HEARTBEAT_S = 1.0


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Load this model, then serve it."""

    model_path: str
    context_size: int
    """Tokens one sequence may hold, prompt and answer together; 0 takes what the model was trained for, up to a cap
    that suits small machines; -1 takes it without the cap."""
    slots: int
    """Sequences computed at once; more wait in the worker's queue."""
    threads: int
    """CPU threads, at least 1."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """Start answering a request."""

    request: Request


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Stop working on a request at the next step."""

    request_id: RequestId


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Who is speaking."""

    version: int
    backend: str
    pid: int


class LoadProgress(msgspec.Struct, frozen=True, array_like=True, tag="load_progress"):
    """``per_mille`` of the load is done, 0 to 1000."""

    per_mille: int


class ModelFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the engine learnt from the model."""

    context_size: int
    """Tokens one sequence may hold."""
    slots: int
    trained_context_size: int
    vocabulary_size: int
    description: str = ""
    has_chat_template: bool = False


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """Ready for requests."""

    facts: ModelFacts


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag="load_failed"):
    """The model cannot be loaded; trying again with the same file and settings will not help."""

    error: Failed


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    """Alive. Counts cover requests; totals only grow, so a reader can derive speeds."""

    active: int
    queued: int
    step_running_s: float = 0.0
    """Seconds the current engine step has been running; 0 between steps."""
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0


class Events(msgspec.Struct, frozen=True, array_like=True, tag="events"):
    """What one engine step gave, for all its requests, in order."""

    events: tuple[tuple[RequestId, Event], ...]


ToWorker: TypeAlias = Load | Ask | Cancel
FromWorker: TypeAlias = Hello | LoadProgress | Loaded | LoadFailed | Heartbeat | Events


def to_worker_codec() -> FrameCodec[ToWorker]:
    """A codec for frames that a node sends."""
    return FrameCodec(ToWorker)


def from_worker_codec() -> FrameCodec[FromWorker]:
    """A codec for frames that a worker sends."""
    return FrameCodec(FromWorker)
