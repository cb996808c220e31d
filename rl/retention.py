"""How long trajectories are kept, and how many checkpoints of a training."""

from __future__ import annotations

from pydantic import Field

from rl.training import Config


class Retention(Config):
    """Trajectories of windows that ended more than ``days`` ago are removed; None keeps them for ever.

    What a running job reads, and what a version in use was trained on, stays. Of a training whose version is decided,
    the last ``checkpoints`` stay on disk beside what ``rl.checkpoint_retention`` names.
    """

    days: int | None = Field(None, ge=1)
    checkpoints: int = Field(2, ge=0, exclude_if=lambda checkpoints: checkpoints == 2)
