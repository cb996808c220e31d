"""How far a job is, and the curves of a training, from what its worker stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from admin import figures
from admin.pages.formats import number
from db import clock

DRAWN = (
    ("loss", "Loss"),
    ("mean_score", "Mean score of the step's trajectories"),
    ("reference_kl", "KL to the reference, nats a token"),
    ("entropy", "Entropy, nats a token"),
    ("preferred_share", "Share of pairs with the preferred answer ahead"),
    ("value_loss", "Loss of the value head"),
    ("learning_rate", "Learning rate"),
    ("tokens_per_second", "Tokens a second"),
)
"""The metrics with a chart, in this order, of those that the training says."""


@dataclass(frozen=True)
class Moving:
    """``done`` of ``total`` units are done. ``eta_seconds`` and ``per_second`` are None where nobody knows."""

    stage: str
    done: int
    total: int
    unit: str
    per_second: float | None
    eta_seconds: float | None


@dataclass(frozen=True)
class Chart:
    """A curve with its heading and its last value in words."""

    title: str
    last: str
    chart: Markup


def moving(progress: Mapping[str, Any] | None, started_at: datetime | None, *, running: bool) -> Moving | None:
    """What the holder last said of its progress. None: nothing yet."""
    if not progress or not progress.get("total"):
        return None
    is_training = "step" in progress
    done, total = int(progress["step"] if is_training else progress.get("done", 0)), int(progress["total"])
    eta = (progress.get("metrics") or {}).get("eta_seconds")
    speed = progress.get("per_second")
    if speed is None and eta and running:
        speed = (total - done) / eta
    if speed is None and started_at is not None and running:
        passed = (clock.lately() - started_at).total_seconds()
        speed = done / passed if passed > 0 and done else None
    if eta is None and speed:
        eta = (total - done) / speed
    return Moving(
        stage=str(progress.get("stage", "")),
        done=done,
        total=total,
        unit="steps" if is_training else "done",
        per_second=speed,
        eta_seconds=eta if running else None,
    )


def charts(curves: Mapping[str, list[Any]]) -> list[Chart]:
    """A chart of each metric that has at least two points."""
    steps = [str(step) for step in curves.get("step", [])]
    found = []
    for name, title in DRAWN:
        values = curves.get(name, [])
        known = [(step, value) for step, value in zip(steps, values, strict=False) if value is not None]
        if len(known) > 1:
            last = f"{number(known[-1][1], 4)} at step {known[-1][0]}"
            alt = f"{title} by step: {number(known[0][1], 4)} at step {known[0][0]}, {last}"
            found.append(Chart(title, last, figures.line_chart([figures.Series(name, values)], steps, alt)))
    return found
