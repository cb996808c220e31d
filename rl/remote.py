"""Weights that lie with a service that trained them and serves them: they have a name there, and no folder here."""

from __future__ import annotations

import hashlib
from typing import Final

WANDB: Final = "wandb-artifact:///"
"""How W&B's training service names what it trained: ``wandb-artifact:///entity/project/name:step3``."""


def is_remote(uri: str) -> bool:
    """Whether the checkpoint of that URI is no folder of ours."""
    return uri.startswith(WANDB)


def sha256_of(uri: str) -> str:
    """What stands in for the hash of weights that nobody here has read: that of their name, which is never reused."""
    return hashlib.sha256(uri.encode()).hexdigest()
