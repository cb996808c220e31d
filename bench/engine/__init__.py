"""Tokens per CPU second of the engine, beside what transformers' own ``generate`` makes of the same requests."""
