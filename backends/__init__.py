"""Where a training is done: one file per place that trains, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rl.objectives import Objective
from rl.protocol import BackendName, Event, TrainCommand


class Place(Protocol):
    """What carries out commands and tells of it, as a device's resident child does (``worker.child.Child``)."""

    @property
    def log(self) -> Path:
        """Where a person reads what went wrong."""
        ...

    def train(self, command: TrainCommand) -> Iterator[Event | None]:
        """Events up to the last, ``Done``, ``Failed`` or ``Paused``; None about once a second in between.

        What a ``RemoteNoted`` says must be stored when the next one is asked for.
        """
        ...

    def pause(self, command: TrainCommand) -> None:
        """Have ``command`` stop at its next step; ``train`` then yields ``Paused``."""
        ...

    def kill(self) -> None:
        """Give up on what is running, at once."""
        ...


class Backend(Protocol):
    """A place that trains. All take the same dataset and config, and write the same checkpoint folder, or none."""

    @property
    def name(self) -> BackendName:
        """What ``TRAIN_BACKEND`` and ``TrainCommand.backend`` call it."""
        ...

    def refusals(self, config: Objective) -> list[str]:
        """One sentence for each setting that it would not honour, with what to do; empty when it can train this."""
        ...

    def place(self, child: Callable[[], Place]) -> Place:
        """Where its commands go. ``child`` gives the device's resident child, for a backend that trains there."""
        ...
