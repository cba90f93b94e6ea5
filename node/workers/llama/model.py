"""One loaded model and its context: every ``llama_*`` call of the program is in this file (shell).

Each trap listed here kills the process or corrupts memory when ignored, so callers cannot reach past this class:
a batch larger than ``n_batch``, reading logits of a row without them, ids outside the vocabulary, buffers or
callbacks collected while C still uses them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import psutil

from localai.mesh.errors import InvalidRequest, LocalAIError, ModelLoadFailed
from localai.node.inference import Sampling
from localai.node.workers.frames import Load, ModelFacts
from localai.node.workers.llama.library import import_llama_cpp
from localai.node.workers.llama.schedule import STEP_TOKENS, Chunk, Ids

DEFAULT_CONTEXT_SIZE = 4096
"""Used when nothing asks for a size and the model was trained for more: memory grows with it, per slot."""
_PENALTY_WINDOW = 64
_MAX_PIECE_BYTES = 1024
_F16_BYTES = 2
_MAX_TOTAL_CONTEXT = 2**31 - 1
_KEPT_FOR_C: list[Any] = []
"""The log callback: the library holds it for as long as the process lives, whatever becomes of a model."""
_LOG_WARN = 3
_LOG_ERROR = 4
_RANDOM_SEED_BYTES = 4


Sampler: TypeAlias = Any
"""An opaque pointer of the library."""


class EngineError(LocalAIError):
    """The library refused a step. What was in the cache is not to be trusted."""

    default_code = "engine_error"


class LlamaModel:
    """A model ready to compute steps. Use from one thread, except for text: tokenizing and pieces.

    Raises:
        ModelLoadFailed: on construction: not a model, or too little memory.
        SetupError: on construction: the library is missing or does not match.
    """

    def __init__(self, load: Load, on_progress: Callable[[float], None]) -> None:
        self._lib: Any = import_llama_cpp()
        self._silence()
        self._lib.llama_backend_init()
        self._model = self._load_model(load, on_progress)
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self._vocabulary_size = int(self._lib.llama_vocab_n_tokens(self._vocab))
        trained = int(self._lib.llama_model_n_ctx_train(self._model))
        context_size = choose_context_size(load.context_size, trained)
        self._check_memory(load.slots, context_size)
        self._context = self._new_context(load, context_size)
        self._memory = self._lib.llama_get_memory(self._context)
        template = self._lib.llama_model_chat_template(self._model, None)
        self.chat_template: str | None = template.decode("utf-8", "replace") if template else None
        self.facts = ModelFacts(
            context_size=min(context_size, int(self._lib.llama_n_ctx_seq(self._context))),
            slots=load.slots,
            trained_context_size=trained,
            vocabulary_size=self._vocabulary_size,
            description=self._description(),
            has_chat_template=self.chat_template is not None,
        )
        self._allocate_batch(load.slots)
        self._pieces: dict[int, bytes] = {}
        self._ends = frozenset(t for t in range(self._vocabulary_size) if self._lib.llama_vocab_is_eog(self._vocab, t))

    # Loading

    def _silence(self) -> None:
        """Keep warnings and errors of the library for our log; drop its chatter."""
        if not _KEPT_FOR_C:
            _KEPT_FOR_C.append(self._lib.llama_log_callback(_log_line))
            self._lib.llama_log_set(_KEPT_FOR_C[0], None)

    def _load_model(self, load: Load, on_progress: Callable[[float], None]) -> Any:
        def progressed(fraction: float, _user_data: Any) -> bool:
            on_progress(fraction)
            return True

        parameters = self._lib.llama_model_default_params()
        self._progress_callback = self._lib.llama_progress_callback(progressed)
        parameters.progress_callback = self._progress_callback
        model = self._lib.llama_model_load_from_file(load.model_path.encode(), parameters)
        if not model:
            name = os.path.basename(load.model_path)
            raise ModelLoadFailed(
                f"llama.cpp cannot load '{name}': the file is damaged, not a GGUF model, or of a kind this version "
                "does not know. Install it again, or try another file; the node's log has llama.cpp's own words."
            )
        return model

    def _check_memory(self, slots: int, context_size: int) -> None:
        """Refuse a cache that does not fit: the system would hand it out, then kill somebody for it."""
        lib, model = self._lib, self._model
        head_size = lib.llama_model_n_embd(model) // max(1, lib.llama_model_n_head(model))
        bytes_per_token = 2 * lib.llama_model_n_layer(model) * lib.llama_model_n_head_kv(model) * head_size * _F16_BYTES
        needed = bytes_per_token * context_size * slots
        available = psutil.virtual_memory().available
        if needed > available or context_size * slots > _MAX_TOTAL_CONTEXT:
            raise ModelLoadFailed(
                f"{slots} slots of {context_size} tokens need {needed >> 20} MiB of memory, and {available >> 20} MiB "
                "are free. Start the node with a smaller --context-size."
            )

    def _new_context(self, load: Load, context_size: int) -> Any:
        parameters = self._lib.llama_context_default_params()
        parameters.n_ctx = context_size * load.slots
        parameters.n_batch = STEP_TOKENS
        parameters.n_ubatch = STEP_TOKENS
        parameters.n_seq_max = load.slots
        parameters.n_threads = load.threads
        parameters.n_threads_batch = load.threads
        # A part of the cache for each slot: attention touches only its own cells, and no slot can starve another.
        parameters.kv_unified = False
        context = self._lib.llama_init_from_model(self._model, parameters)
        if not context:
            raise ModelLoadFailed(
                f"llama.cpp cannot make {load.slots} slots of {context_size} tokens. "
                "Start the node with a smaller --context-size."
            )
        return context

    def _description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def _allocate_batch(self, slots: int) -> None:
        """Batch arrays are ours, so that filling a chunk is a few slice assignments."""
        self._tokens = np.zeros(STEP_TOKENS, np.int32)
        self._positions = np.zeros(STEP_TOKENS, np.int32)
        self._sequence_counts = np.ones(STEP_TOKENS, np.int32)
        self._wants_logits = np.zeros(STEP_TOKENS, np.int8)
        self._slot_ids = np.arange(slots, dtype=np.int32)
        self._slot_pointers = np.zeros(STEP_TOKENS, np.uintp)
        lib, batch, pointer = self._lib, self._lib.llama_batch(), ctypes.POINTER
        batch.token = ctypes.cast(self._tokens.ctypes.data, pointer(lib.llama_token))
        batch.pos = ctypes.cast(self._positions.ctypes.data, pointer(lib.llama_pos))
        batch.n_seq_id = ctypes.cast(self._sequence_counts.ctypes.data, pointer(ctypes.c_int32))
        batch.seq_id = ctypes.cast(self._slot_pointers.ctypes.data, pointer(pointer(lib.llama_seq_id)))
        batch.logits = ctypes.cast(self._wants_logits.ctypes.data, pointer(ctypes.c_int8))
        batch.embd = None
        self._batch = batch

    # Text

    def tokenize(self, text: str, *, add_special: bool) -> Ids:
        """Token ids of a text; markers of the model in it (such as ``<|im_start|>``) become their tokens.

        ``add_special`` adds what the model wants at the beginning of a sequence. Safe from any thread.
        """
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 16
        buffer = np.zeros(capacity, np.int32)
        pointer = ctypes.cast(buffer.ctypes.data, ctypes.POINTER(self._lib.llama_token))
        count = self._lib.llama_tokenize(self._vocab, data, len(data), pointer, capacity, add_special, True)
        if count < 0:
            raise InvalidRequest("The prompt could not be turned into tokens. Shorten it.", detail=f"rc {count}")
        return buffer[:count].copy()

    def check_ids(self, ids: Sequence[int]) -> Ids:
        """Token ids from outside, as an array.

        Raises:
            InvalidRequest: one is not in the vocabulary.
        """
        if any(not 0 <= token < self._vocabulary_size for token in ids):
            message = f"A token id is outside this model's vocabulary (0 to {self._vocabulary_size - 1})."
            raise InvalidRequest(message, param="prompt")
        return np.array(ids, np.int32)

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; markers such as end-of-turn give their text."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(_MAX_PIECE_BYTES)  # one per call: two threads may be here
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            known = self._pieces[token] = buffer.raw[: max(0, length)]
        return known

    def is_end(self, token: int) -> bool:
        """True for a token that ends the model's turn."""
        return token in self._ends

    @property
    def bos(self) -> str:
        """Text of the beginning-of-sequence token, empty where there is none."""
        return self._marker(self._lib.llama_vocab_bos(self._vocab))

    @property
    def eos(self) -> str:
        """Text of the end-of-sequence token, empty where there is none."""
        return self._marker(self._lib.llama_vocab_eos(self._vocab))

    def _marker(self, token: int) -> str:
        return self.piece(token).decode("utf-8", "replace") if 0 <= token < self._vocabulary_size else ""

    # Computing

    def trim(self, slot: int, keep: int) -> int:
        """Forget the slot's cache after ``keep`` ids; get how many are kept (0 where the model cannot keep a part)."""
        if keep and self._lib.llama_memory_seq_rm(self._memory, slot, keep, -1):
            return keep
        self._lib.llama_memory_seq_rm(self._memory, slot, -1, -1)
        return 0

    def clear(self) -> None:
        """Forget everything in the cache."""
        self._lib.llama_memory_clear(self._memory, True)

    def decode(self, chunks: Sequence[Chunk]) -> dict[int, int]:
        """Compute the chunks; get, by slot, the row to sample from for each chunk that wants a token.

        The interpreter lock is released meanwhile.

        Raises:
            EngineError: the library refused. The cache is in an unknown state: call ``clear``.
        """
        rows: dict[int, int] = {}
        end = 0
        base = self._slot_ids.ctypes.data
        for chunk in chunks:
            start, end = end, end + len(chunk.ids)
            if end > STEP_TOKENS:  # the library would abort the process
                raise EngineError("A step has more tokens than the batch.")
            self._tokens[start:end] = chunk.ids
            self._positions[start:end] = np.arange(chunk.position, chunk.position + end - start, dtype=np.int32)
            self._slot_pointers[start:end] = base + 4 * chunk.slot
            self._wants_logits[start:end] = 0
            if chunk.wants_token:
                self._wants_logits[end - 1] = 1
                rows[chunk.slot] = end - 1
        self._batch.n_tokens = end
        code = self._lib.llama_decode(self._context, self._batch)
        if code != 0:
            raise EngineError("The engine failed while computing. Try again.", detail=f"llama_decode returned {code}")
        return rows

    # Sampling

    def new_sampler(self, sampling: Sampling) -> Sampler:
        """A sampler with a state of its own; free it with :meth:`free_sampler`."""
        lib = self._lib
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())

        def add(sampler: Sampler) -> None:
            lib.llama_sampler_chain_add(chain, sampler)

        if sampling.repeat_penalty != 1.0 or sampling.frequency_penalty or sampling.presence_penalty:
            penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
            add(self._penalties(*penalties))
        if sampling.temperature <= 0:
            add(lib.llama_sampler_init_greedy())
            return chain
        if sampling.top_k > 0:
            add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        add(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed
        add(lib.llama_sampler_init_dist(_random_seed() if seed is None else seed))
        return chain

    def _penalties(self, repeat: float, frequency: float, presence: float) -> Any:
        return self._lib.llama_sampler_init_penalties(
            self._vocabulary_size, _PENALTY_WINDOW, repeat, frequency, presence
        )

    def sample(self, sampler: Sampler, row: int) -> int:
        """Draw a token from a row that :meth:`decode` has named since its last call."""
        return int(self._lib.llama_sampler_sample(sampler, self._context, row))

    def free_sampler(self, sampler: Sampler) -> None:
        """Give a sampler back."""
        self._lib.llama_sampler_free(sampler)


def choose_context_size(wanted: int, trained: int) -> int:
    """The context to make: what is wanted; 0 leaves it to us, -1 asks for all the model was trained for."""
    if wanted > 0:
        return wanted
    if wanted < 0 and trained > 0:
        return trained
    return min(trained or DEFAULT_CONTEXT_SIZE, DEFAULT_CONTEXT_SIZE)


def _random_seed() -> int:
    return int.from_bytes(os.urandom(_RANDOM_SEED_BYTES), "little")


def _log_line(level: int, text: bytes, _user_data: Any) -> None:
    if level in (_LOG_WARN, _LOG_ERROR):
        os.write(2, text)
