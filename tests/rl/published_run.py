"""The published run "obsidian-retrieval": rates of five checkpoints, as they were printed."""

from __future__ import annotations

from typing import Any

SIZES = {"retrieval": 16, "update": 6, "clarification": 11}
RATES: dict[int, tuple[float, float, float, float, float | None]] = {
    0: (0.5625, 0.0, 0.3636, 0.3939, None),
    13: (0.9375, 0.125, 0.4546, 0.6667, 0.5562),
    21: (0.9375, 0.6667, 0.2727, 0.6667, 0.5097),
    26: (0.8125, 0.125, 0.2727, 0.5455, 0.4311),
    38: (0.625, 0.5, 0.2727, 0.4848, 0.3092),
}
"""Retrieval, update, clarification, overall, training score. Update at 13 and 26 is no count of 6."""

SUCCESSES = {0: (9, 0, 4), 13: (15, 2, 5), 21: (15, 4, 3), 26: (13, 2, 3), 38: (10, 3, 3)}
"""What the rates must have been."""


def published() -> dict[str, Any]:
    """The run as a file for ``rlfleet select``."""
    rows = []
    for step, (*rates, overall, training_score) in RATES.items():
        types = {name: {"rate": rate, "n": n} for (name, n), rate in zip(SIZES.items(), rates, strict=True)}
        rows.append({"step": step, "types": types, "overall": overall, "training_score": training_score})
    return {"rows": rows}
