"""Every malformed variant of a row of trajectories, each with the field and the reason it is quarantined for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sources.values import Reason

Row = dict[str, Any]


def _put(name: str, value: object) -> Callable[[Row], None]:
    return lambda row: row.update({name: value})


def _steps_put(change: Callable[[Row], None]) -> Callable[[Row], None]:
    """Change every step of a row in the recorder's shape."""

    def spoil(row: Row) -> None:
        steps = json.loads(row["stepsJson"])
        for step in steps:
            change(step)
        row["stepsJson"] = json.dumps(steps)

    return spoil


def _cut(row: Row) -> None:
    row["stepsJson"] = row["stepsJson"][: len(row["stepsJson"]) // 2]


def _silence(step: Row) -> None:
    step["llmCalls"] = [{"model": "m", "systemPrompt": "", "userPrompt": "", "response": ""}]


def _bad_id(name: str, prefix: str) -> Callable[[Row], None]:
    return lambda row: row.update({name: prefix + row[name]})


BAD: dict[int, tuple[str, Reason, Callable[[Row], None]]] = {
    100: ("stepsJson", Reason.NO_STEPS, _put("stepsJson", "[]")),
    101: ("stepsJson", Reason.NO_STEPS, _put("stepsJson", "null")),
    102: ("stepsJson", Reason.NO_STEPS, _put("stepsJson", None)),
    103: ("stepsJson", Reason.NO_STEPS, _put("stepsJson", "")),
    104: ("stepsJson", Reason.NOT_JSON, _cut),
    105: ("stepsJson", Reason.NOT_JSON, _put("stepsJson", "undefined")),
    106: ("stepsJson", Reason.TOO_DEEP, _put("stepsJson", "[" * 100_000)),
    107: ("stepsJson", Reason.TOO_DEEP, _put("stepsJson", '[{"action": ' + "[" * 90 + "]" * 90 + "}]")),
    108: ("stepsJson", Reason.TOO_MANY_DIGITS, _put("stepsJson", '[{"reward": ' + "9" * 5000 + "}]")),
    109: ("stepsJson", Reason.NOT_A_LIST, _put("stepsJson", '{"a": 1}')),
    110: ("stepsJson", Reason.NOT_AN_OBJECT, _put("stepsJson", "[1, null]")),
    111: ("stepsJson", Reason.NO_CALL, _steps_put(_silence)),
    112: ("stepsJson.0.reward", Reason.NOT_A_NUMBER, _steps_put(lambda step: step.update(reward=float("nan")))),
    113: ("stepsJson.0.reward", Reason.NOT_A_NUMBER, _steps_put(lambda step: step.update(reward="much"))),
    114: ("totalReward", Reason.NOT_A_NUMBER, _put("totalReward", "Infinity")),
    115: ("isEvaluation", Reason.EVALUATION, _put("isEvaluation", True)),
    116: ("isTrainingData", Reason.NOT_TRAINING, _put("isTrainingData", False)),
    117: ("trajectoryId", Reason.SYNTHETIC, _bad_id("trajectoryId", "synthetic-")),
    118: ("trajectoryId", Reason.SYNTHETIC, _bad_id("trajectoryId", "fake-")),
    119: ("agentId", Reason.SYNTHETIC, _bad_id("agentId", "test-agent-")),
    120: ("agentId", Reason.SYNTHETIC, _put("agentId", "agent-trader-123")),
    121: ("agentId", Reason.MISSING, _put("agentId", "")),
    122: ("endTime", Reason.MISSING, _put("endTime", None)),
    123: ("endTime", Reason.NOT_A_MOMENT, _put("endTime", "infinity")),
    124: ("windowId", Reason.NOT_A_WINDOW, _put("windowId", "last tuesday")),
}
"""Place within each 400 rows to the field, the reason and what is done to the row."""
