"""One row of a Babylon-style database as a trajectory.

What nobody knew when the agent acted (how markets went, what the game knew, whether a prediction was right) goes to
``Turn.outcome`` and to ``metadata["outcome"]``. Metadata keeps the names of that database: ``finalPnL``,
``aiJudgeReward``, ``totalReward`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rl.errors import InvalidRow
from rl.records import Trajectory, Turn
from rl.windows import WindowId, hour_of
from sources import steps
from sources.babylon_windows import window_of
from sources.values import Reason, clean, decode, flag, invalid, members, moment, number

Values = Mapping[str, str | None]
Json = Mapping[str, Any]

REQUIRED = ("trajectoryId", "agentId", "stepsJson", "endTime")
COUNTS = ("windowHours", "durationMs", "episodeLength", "tradesExecuted", "postsCreated")
AMOUNTS = ("finalBalance", "finalPnL", "totalReward", "aiJudgeReward")
TEXTS = ("windowId", "episodeId", "batchId", "finalStatus", "aiJudgeReasoning", "judgedAt", "trainedInBatch")
JSONS = {"rewardComponentsJson": "rewardComponents", "metricsJson": "metrics", "metadataJson": "more"}
FLAGS = ("isTrainingData", "isEvaluation", "usedInTraining")
COLUMNS = ("id", *REQUIRED, "startTime", "scenarioId", "archetype", *COUNTS, *AMOUNTS, *TEXTS, *JSONS, *FLAGS)
"""Columns that are read, as far as they are there."""

SYNTHETIC = ("synthetic-", "fake-", "test-agent-")
SYNTHETIC_ID = "agent-trader-123"
LATER = steps.LATER - {"correctness"}
MARKET_IDS = ("marketId", "market_id", "predictionMarketId", "ticker", "stockTicker", "symbol")
"""Parameters by which an action names its market."""


@dataclass
class Draft:
    """A row as far as it says itself; its calls may lie in the log of calls."""

    values: Values
    trajectory_id: str
    window: WindowId
    ended_at: datetime
    steps: steps.Steps
    metadata: dict[str, Any]

    @property
    def lacks_calls(self) -> bool:
        return bool(self.steps.silent) or not self.steps.turns


def draft(values: Values, too_large: Sequence[str] = ()) -> Draft:
    """The row without what other tables know of it.

    Raises:
        InvalidRow: it is no training data, or something that a trajectory needs is missing or wrong.
    """
    metadata = _metadata(values)
    _check_use(values, metadata.get("more") or {})
    for name in too_large:
        raise invalid(name, Reason.TOO_LARGE)
    ids = {name: _required(values, name) for name in ("trajectoryId", "agentId")}
    for name, own in ids.items():
        if own.lower().startswith(SYNTHETIC) or own.lower() == SYNTHETIC_ID:
            raise invalid(name, Reason.SYNTHETIC)
    ended = moment(_required(values, "endTime"), "endTime")
    assert ended is not None  # noqa: S101 - a text that is not empty
    found = steps.parse(values["stepsJson"], ids["trajectoryId"])
    return Draft(values, ids["trajectoryId"], _window(values, ended), ended, found, metadata)


def _check_use(values: Values, more: Json) -> None:
    """Raises ``InvalidRow`` for a row that is never trained on."""
    if flag(values.get("isEvaluation")) or flag(more.get("isEvaluation")):
        raise invalid("isEvaluation", Reason.EVALUATION)
    if flag(values.get("isTrainingData")) is False or flag(more.get("isTrainingData")) is False:
        raise invalid("isTrainingData", Reason.NOT_TRAINING)


def _required(values: Values, name: str) -> str:
    value = values.get(name)
    if value is None or not value.strip():
        raise invalid(name, Reason.MISSING)
    return value


def _window(values: Values, ended: datetime) -> WindowId:
    if not (text := values.get("windowId")):
        return hour_of(ended)
    if (window := window_of(text)) is None:
        raise invalid("windowId", Reason.NOT_A_WINDOW)
    return window


def finish(one: Draft, logged: Sequence[Json], markets: Sequence[Json]) -> Trajectory:
    """The trajectory, with calls from the log where its steps have none, and how its window's markets went.

    Raises:
        InvalidRow: no call of it can be used, or its reward is not a finite number.
    """
    found, values = one.steps, one.values
    steps.add_logged(found, logged, one.trajectory_id)
    if not found.calls:
        raise invalid("stepsJson", Reason.NO_CALL if found.turns or logged else Reason.NO_STEPS)
    reward = number(values.get("totalReward"), "totalReward")
    if reward is None and not found.turns:
        one.metadata["reward"] = None
    if reward is None:
        reward = number(sum(turn.reward for turn in found.turns), "totalReward")
    if not values.get("scenarioId"):
        one.metadata["scenario_id"] = None
    return Trajectory(
        trajectory_id=one.trajectory_id,
        scenario_id=values.get("scenarioId") or one.window.text,
        agent_id=_required(values, "agentId"),
        started_at=_started(one),
        ended_at=one.ended_at,
        reward=reward or 0.0,
        calls=found.calls,
        turns=_with_markets(found.turns, markets),
        archetype=values.get("archetype") or _text(one, "archetype"),
        consent=consent_of(values),
        metadata=_later_apart(one, markets),
    )


def consent_of(values: Values) -> bool | None:
    """What the row's metadata say of consent, as far as they can be read."""
    text = values.get("metadataJson") or "null"
    try:
        body, _ = decode(text, "metadataJson")
    except InvalidRow:
        body = members(text)
    return flag(body.get("consent")) if isinstance(body, dict) else None


def _started(one: Draft) -> datetime:
    """The start, else the end less the duration, else the end."""
    if (started := moment(one.values.get("startTime"), "startTime")) is not None:
        return started
    milliseconds = one.metadata.get("durationMs", 0)
    return one.ended_at - timedelta(milliseconds=min(max(milliseconds, 0), 1e10))


def _text(one: Draft, name: str) -> str | None:
    found = (one.metadata.get("more") or {}).get(name)
    return found if isinstance(found, str) and found else None


def _metadata(values: Values) -> dict[str, Any]:
    """What the row says beside its steps, without what is empty. ``unreadable`` names columns that make no sense."""
    found: dict[str, Any] = {name: value for name in TEXTS if (value := values.get(name))}
    unreadable = []
    for name in (*COUNTS, *AMOUNTS):
        try:
            amount = number(values.get(name), name)
        except InvalidRow:
            unreadable.append(name)
            continue
        if amount is not None:
            found[name] = int(amount) if name in COUNTS else amount
    for name, ours in JSONS.items():
        try:
            body, dirty = decode(values.get(name) or "null", name)
        except InvalidRow:
            unreadable.append(name)
            continue
        if isinstance(body, dict) and body:
            found[ours] = clean(body) if dirty else body
    if (used := flag(values.get("usedInTraining"))) is not None:
        found["usedInTraining"] = used
    return found | ({"unreadable": unreadable} if unreadable else {})


def _later_apart(one: Draft, markets: Sequence[Json]) -> dict[str, Any]:
    """The metadata, with what became known later under ``outcome``."""
    more = one.metadata.pop("more", {})
    outcome = {name: value for name, value in more.items() if name in LATER and value}
    if markets:
        outcome["markets"] = [{key: value for key, value in row.items() if key != "newsEvents"} for row in markets]
    extra = {
        "more": {name: value for name, value in more.items() if name not in LATER},
        "outcome": outcome,
        "base_models": one.steps.base_models,
        "calls_left_out": one.steps.left_out,
    }
    return one.metadata | {name: value for name, value in extra.items() if value}


def _with_markets(turns: Sequence[Turn], markets: Sequence[Json]) -> list[Turn]:
    by_id = {
        str(row[name]).lower(): row for row in markets for name in ("stockTicker", "predictionMarketId") if name in row
    }
    return [_with_market(turn, by_id) for turn in turns] if by_id else list(turns)


def _with_market(turn: Turn, by_id: Mapping[str, Json]) -> Turn:
    """The turn with how the market went that its action names; what the log itself knows of the action stays."""
    named = [turn.action.parameters.get(name) for name in MARKET_IDS] if turn.action else []
    row = next((by_id[key] for one in named if (key := str(one).lower()) in by_id), None)
    if row is None:
        return turn
    short = {"actualOutcome": row.get("outcome"), "changePercent": row.get("changePercent")}
    known = {name: value for name, value in short.items() if value is not None}
    return turn.model_copy(update={"outcome": known | turn.outcome | {"market": dict(row)}})
