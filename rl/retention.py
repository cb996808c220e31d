"""How long trajectories are kept."""

from __future__ import annotations

from pydantic import Field

from rl.training import Config


class Retention(Config):
    """Trajectories of windows that ended more than ``days`` ago are removed; None keeps them for ever.

    What a running job reads, and what a version in use was trained on, stays.
    """

    days: int | None = Field(None, ge=1)
