"""The llama.cpp worker: the only importer of ``llama_cpp``."""
