"""What became of a training's metrics from step to step, small enough to travel with every heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST = 120
"""Points of a curve. When there are more, every second one is dropped, and from then on half as many are kept."""
NOT_DRAWN = {"eta_seconds", "prepared"}


class Curves:
    """The metrics by step. ``rows`` is ``{"step": [...], "loss": [...], ...}``, null where a step did not say one."""

    def __init__(self, earlier: Mapping[str, Sequence[Any]] | None = None, last: int = 0) -> None:
        """``earlier`` are the ``rows`` of the attempt that this one goes on from, at step ``last``."""
        steps = [int(step) for step in (earlier or {}).get("step", ()) if step <= last]
        named = {name: points for name, points in (earlier or {}).items() if name != "step"}
        self._steps: list[tuple[int, dict[str, float]]] = [
            (step, {name: points[at] for name, points in named.items() if points[at] is not None})
            for at, step in enumerate(steps)
        ]
        self._every = max(1, steps[1] - steps[0]) if len(steps) > 1 else 1
        self._seen = len(steps) * self._every

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """One more step; preparing, which is step 0, is none."""
        said = {name: float(f"{value:.6g}") for name, value in metrics.items() if name not in NOT_DRAWN}
        if step < 1 or not said:
            return
        if self._seen % self._every == 0:
            self._steps.append((step, said))
        self._seen += 1
        if len(self._steps) > MOST:
            self._steps = self._steps[::2]
            self._every *= 2

    def rows(self) -> dict[str, list[Any]]:
        """The curves; empty before the first step."""
        if not self._steps:
            return {}
        names = sorted({name for _, said in self._steps for name in said})
        points = {name: [said.get(name) for _, said in self._steps] for name in names}
        return {"step": [step for step, _ in self._steps], **points}
