"""TRL's ``SFTTrainer`` and ``GRPOTrainer`` (``gpu/trl_trainer.py``), in the resident child of a device."""

from __future__ import annotations

from collections.abc import Callable

from backends import Place
from rl import trl
from rl.objectives import Objective
from rl.protocol import BackendName


class Trl:
    """A second opinion on the local trainer, and a way out when it is in doubt: slower, and with fewer objectives."""

    name: BackendName = "trl"

    def refusals(self, config: Objective) -> list[str]:
        """Objectives that TRL has no equal loss for, and settings that it would ignore."""
        return trl.refusals(config)

    def place(self, child: Callable[[], Place]) -> Place:
        """The device's child."""
        return child()
