"""What a training says of itself while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TypeVar

from gpu.optimizer import AdamW
from rl.errors import ChildLost
from rl.protocol import CheckpointWritten, Done, Paused, Progress, StateSaved, TrainCommand

Emit = Callable[[Progress | CheckpointWritten | StateSaved | Paused | Done], None]
R = TypeVar("R")


class Reported:
    """Progress of one command of ``total`` updates, with the seconds that are left at the speed so far."""

    def __init__(self, command: TrainCommand, total: int, emit: Emit) -> None:
        self.command, self.total, self.emit = command, total, emit
        self.begin(0)

    def begin(self, done: int) -> None:
        """Steps are timed from here, after ``done`` of them."""
        self._began, self._before = time.monotonic(), done

    def during(
        self, work: Generator[float, None, R], stopping: Callable[[], bool], pausing: Callable[[], bool]
    ) -> R | None:
        """The result of ``work``, which yields the share that is done; None when it was told to pause.

        Raises:
            ChildLost: ``stopping`` said so.
        """
        while True:
            try:
                share = next(work)
            except StopIteration as end:
                result: R = end.value
                return result
            if pausing():
                self.paused(0)
                return None
            if stopping():
                raise ChildLost(f"told to stop before step 1 of {self.total}")
            self._say(0, {"prepared": share})

    def paused(self, done: int) -> None:
        """Say that the command was paused after ``done`` updates."""
        self.emit(Paused(job=self.command.job, fence=self.command.fence, step=done))

    def step(self, optimizer: AdamW, metrics: dict[str, float]) -> dict[str, float]:
        """Say what became of a step; the metrics as they were said."""
        here = optimizer.done - self._before
        pace = (time.monotonic() - self._began) / max(here, 1)
        said = metrics | {"learning_rate": optimizer.rate(), "eta_seconds": pace * (self.total - optimizer.done)}
        self._say(optimizer.done, said)
        return said

    def _say(self, step: int, metrics: dict[str, float]) -> None:
        where = {"job": self.command.job, "fence": self.command.fence}
        self.emit(Progress(**where, step=step, total=self.total, metrics=metrics))
