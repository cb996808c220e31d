"""Weights that lie with a service that trained them and serves them: they have a name there, and no folder here."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

WANDB: Final = "wandb-artifact:///"
"""How W&B's training service names what it trained: ``wandb-artifact:///entity/project/name:step3``."""
NAMED: Final = re.compile(rf"{WANDB}([^/:\s]+)/([^/:\s]+)/([^/:\s]+):step(\d{{1,9}})")


class Artifact(NamedTuple):
    """One step of a model with W&B's training service."""

    entity: str
    project: str
    name: str
    step: int

    @property
    def uri(self) -> str:
        """What the service calls it."""
        return f"{WANDB}{self.entity}/{self.project}/{self.name}:step{self.step}"

    @property
    def model(self) -> str:
        """The model that it is a step of."""
        return f"{self.entity}/{self.project}/{self.name}"


def is_remote(uri: str) -> bool:
    """Whether the checkpoint of that URI is no folder of ours."""
    return uri.startswith(WANDB)


def artifact_of(uri: str) -> Artifact | None:
    """The step that a URI names; None where it names none."""
    found = NAMED.fullmatch(uri)
    return Artifact(found[1], found[2], found[3], int(found[4])) if found else None


def sha256_of(uri: str) -> str:
    """What stands in for the hash of weights that nobody here has read: that of their name, which is never reused."""
    return hashlib.sha256(uri.encode()).hexdigest()
