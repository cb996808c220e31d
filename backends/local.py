"""Our own trainer (``gpu/trainer.py``), in the resident child of a device."""

from __future__ import annotations

from collections.abc import Callable

from backends import Place
from rl.objectives import Objective
from rl.protocol import BackendName


class Local:
    """Trains every objective that a training's config can name, and honours every setting."""

    name: BackendName = "local"

    def refusals(self, config: Objective) -> list[str]:
        """None: what it cannot train, ``rl.config.TrainConfig`` does not take."""
        return []

    def place(self, child: Callable[[], Place]) -> Place:
        """The device's child."""
        return child()
