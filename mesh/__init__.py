"""Peers, trust and bytes: what every process of the system needs. Knows nothing of models, prompts or HTTP."""
