"""Every step of a training in a file beside its checkpoints: a JSON object a line, only ever appended to.

A training whose metrics cannot be written goes on. One that is interrupted may make steps again: the line of the
highest fence counts. What a killed process left of its last line is skipped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

FILE: Final = "metrics.jsonl"


@dataclass(frozen=True)
class Step:
    """One optimizer step of a training; steps count from 1. ``at`` is when it ended, in Unix seconds."""

    step: int
    metrics: Mapping[str, float]
    at: float


class StepFile:
    """Appends the steps of one attempt to ``metrics.jsonl`` in ``folder``, which must be there."""

    def __init__(self, folder: Path, job: int, fence: int) -> None:
        self._path, self._job, self._fence = folder / FILE, job, fence
        self._failed = False

    def add(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Append a step. Preparing, which is step 0, is none; a write that fails is logged once."""
        if step < 1 or not metrics:
            return
        row: dict[str, Any] = {"schema": 1, "job": self._job, "fence": self._fence, "step": step, "total": total}
        row |= {"metrics": dict(metrics), "at": datetime.now(UTC).isoformat()}
        try:
            with self._path.open("a+b") as file:
                file.seek(0, 2)
                whole = file.tell() == 0 or _ends_in_a_newline(self._path)
                file.write((b"" if whole else b"\n") + json.dumps(row).encode() + b"\n")
        except OSError as error:
            if not self._failed:
                log.warning("the metrics of job %s are not in %s: %s", self._job, self._path, error.strerror)
            self._failed = True


def _ends_in_a_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def read(path: Path) -> list[Step]:
    """The steps in the file, in order; of one that was made again the newest attempt's. Nothing where it is missing."""
    found: dict[int, tuple[int, Step]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
            at = datetime.fromisoformat(row["at"]).timestamp()
            fence, step = int(row["fence"]), Step(int(row["step"]), dict(row["metrics"]), at)
        except (ValueError, KeyError, TypeError):
            continue
        if step.step not in found or found[step.step][0] <= fence:
            found[step.step] = fence, step
    return [found[step][1] for step in sorted(found)]
