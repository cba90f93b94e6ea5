"""llama.cpp's own server as the program of a child: ``python llama_server.py MODEL SLOTS CONTEXT THREADS``.

Runs in an environment of its own with the ``xllamacpp`` package. Prints its address, then serves until its input ends.
"""

from __future__ import annotations

import sys


def main(model: str, slots: int, context_size: int, threads: int) -> None:
    """Serve."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_parallel = slots
    parameters.n_ctx = slots * context_size
    parameters.n_batch = 512
    parameters.n_ubatch = 512
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.kv_unified = False
    parameters.cache_ram_mib = 0
    parameters.warmup = True
    parameters.fit_params = False
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
