"""Window ids: a UTC hour (``2025-01-15T10:00``) or one round of a run (``run/<name>/0003``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rl.errors import MalformedWindow

HOUR = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:00", re.ASCII)
ROUND = re.compile(r"run/([a-z0-9][a-z0-9_-]{0,63})/(\d{4})", re.ASCII)
REMEDY = "write a UTC hour like 2025-01-15T10:00, or one round of a run like run/demo/0003"


@dataclass(frozen=True)
class WindowId:
    """A parsed window id. Exactly one of ``hour`` and ``run`` is set; ``round`` goes with ``run``."""

    text: str
    hour: datetime | None = None
    run: str | None = None
    round: int | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When an hour window is over; None for a round, which ends when it has been played."""
        return self.hour + timedelta(hours=1) if self.hour else None


def parse(text: object) -> WindowId:
    """The window id in ``text``.

    Raises:
        MalformedWindow: it is neither a UTC hour nor a round of a run.
    """
    if not isinstance(text, str):
        raise MalformedWindow("window_id", text, REMEDY)
    if match := ROUND.fullmatch(text):
        return WindowId(text, run=match[1], round=int(match[2]))
    if HOUR.fullmatch(text):
        try:
            return WindowId(text, hour=datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC))
        except ValueError:
            pass
    raise MalformedWindow("window_id", text, REMEDY)


def hour_of(moment: datetime) -> WindowId:
    """The hour window that holds ``moment`` (aware)."""
    start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return WindowId(start.strftime("%Y-%m-%dT%H:00"), hour=start)


def round_of(run: str, number: int) -> WindowId:
    """Round ``number`` of ``run``.

    Raises:
        MalformedWindow: the run's name has other characters than a-z, 0-9, ``_`` and ``-``.
    """
    return parse(f"run/{run}/{number:04d}")
