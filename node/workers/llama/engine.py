"""The engine loop: requests in, events out, one step at a time (shell).

Owned by one thread. All policy is in ``schedule.py``; this file moves its decisions into ``model.py`` and back.
"""

from __future__ import annotations

import time

from localai.mesh.errors import LocalAIError
from localai.node.inference import GenerateRequest, RequestId
from localai.node.workers.llama.model import EngineError, LlamaModel, Sampler
from localai.node.workers.llama.schedule import EventList, Ids, Schedule


class Engine:
    """A loaded model with its schedule."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self.schedule = Schedule(model.facts.slots, model.facts.context_size, model)
        self._samplers: dict[int, Sampler] = {}

    def submit(self, request: GenerateRequest, prompt: Ids, template_id: str) -> EventList:
        """Queue a request."""
        return self.schedule.submit(request, prompt, template_id, time.monotonic())

    def cancel(self, request_id: RequestId) -> None:
        """Stop working on a request from the next step on."""
        for slot in self.schedule.cancel(request_id):
            self._free_sampler(slot)

    def step(self) -> EventList:
        """Compute one step; the events are empty when there is nothing to do."""
        events = self._admit()
        step = self.schedule.plan()
        if step is None:
            return events
        try:
            rows = self._model.decode(step.chunks)
        except EngineError as error:
            return events + self._give_up(error)
        tokens = {slot: self._model.sample(self._samplers[slot], row) for slot, row in rows.items()}
        events += self.schedule.advance(step, tokens, time.monotonic())
        for slot in self.schedule.vacated(self._samplers):
            self._free_sampler(slot)
        return events

    @property
    def busy(self) -> bool:
        """True while there is something to compute."""
        return bool(self.schedule.active or self.schedule.queued)

    def _admit(self) -> EventList:
        events: EventList = []
        for trim in self.schedule.admit(time.monotonic()):
            kept = self._model.trim(trim.slot, trim.keep)
            events += self.schedule.trimmed(trim.slot, kept)
            self._samplers[trim.slot] = self._model.new_sampler(self.schedule.sampling_in(trim.slot))
        return events

    def _give_up(self, error: LocalAIError) -> EventList:
        for slot in list(self._samplers):
            self._free_sampler(slot)
        self._model.clear()
        return self.schedule.fail_all(error)

    def _free_sampler(self, slot: int) -> None:
        sampler = self._samplers.pop(slot, None)
        if sampler is not None:
            self._model.free_sampler(sampler)
