"""Rows of a mapped table as a trajectory: one row for all of it, or one row a call."""

from __future__ import annotations

from collections.abc import Mapping as Values
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from db.foreign import Row
from db.foreign_conditions import NUMBERS, Relation
from rl.errors import InvalidRow
from rl.records import Trajectory, Turn
from rl.windows import hour_of
from sources.steps import Steps
from sources.table_mapping import Mapping
from sources.values import Reason, clean, decode, flag, invalid, moment, number

SPOKEN = {
    "messages": "messages",
    "system": "systemPrompt",
    "prompt": "prompt",
    "response": "response",
    "reasoning": "reasoning",
    "tools": "tools",
    "temperature": "temperature",
    "prompt_token_ids": "promptTokenIds",
    "token_ids": "tokenIds",
    "logprobs": "logprobs",
    "call": "callId",
}
"""Names in the mapping to those of ``sources.calls``."""


class Rows:
    """Makes trajectories of rows of one relation."""

    def __init__(self, mapping: Mapping, relation: Relation) -> None:
        self.mapping, self.columns, self.relation = mapping, mapping.columns, relation

    def trajectory(self, rows: Sequence[Row]) -> Trajectory:
        """The trajectory of its rows, in order; there is at least one.

        Raises:
            InvalidRow: something that a trajectory needs is missing or wrong; the field is the column's name.
        """
        values = rows[0].values
        self._check_use(rows)
        ended = max(self._moment(row.values, self.columns.ended) for row in rows)
        own = str(values[self.columns.trajectory])
        steps = self._steps(rows, own)
        rewards = [self._reward(row.values) for row in rows]
        known = [one for one in rewards if one is not None]
        scenario = self._text(values, self.columns.scenario)
        facts = {"reward": known or None, "scenario_id": scenario}
        metadata = {name: None for name, value in facts.items() if value is None}
        return Trajectory(
            trajectory_id=own,
            scenario_id=scenario or hour_of(ended).text,
            agent_id=self._text(values, self.columns.agent) or self.relation.name,
            started_at=self._started(rows, ended),
            ended_at=ended,
            reward=self._total(known),
            calls=steps.calls,
            turns=self._turns(rewards),
            archetype=self._text(values, self.columns.archetype),
            consent=self.consent(rows),
            metadata=metadata | ({"calls_left_out": steps.left_out} if steps.left_out else {}),
        )

    def last(self, rows: Sequence[Row]) -> datetime | None:
        """When the last of the rows ended, of those that say it."""
        found = []
        for row in rows:
            try:
                found.append(self._moment(row.values, self.columns.ended))
            except InvalidRow:
                continue
        return max(found, default=None)

    def _check_use(self, rows: Sequence[Row]) -> None:
        columns = self.columns
        for row in rows:
            if columns.evaluation and flag(row.values.get(columns.evaluation)):
                raise invalid(columns.evaluation, Reason.EVALUATION)
            for name in row.too_large:
                raise invalid(name, Reason.TOO_LARGE)
            if not row.values[columns.trajectory]:
                raise invalid(columns.trajectory, Reason.MISSING)

    def _text(self, values: Values[str, str | None], name: str | None) -> str | None:
        return (values.get(name) or None) if name else None

    def _moment(self, values: Values[str, str | None], name: str) -> datetime:
        value: str | float | None = values.get(name)
        if self.relation.columns[name] in NUMBERS and (ticks := number(value, name)) is not None:
            value = ticks / self.mapping.ticks
        found = moment(value, name)
        if found is None:
            raise invalid(name, Reason.MISSING)
        return found

    def _started(self, rows: Sequence[Row], ended: datetime) -> datetime:
        name = self.columns.started or (self.columns.ended if len(rows) > 1 else None)
        known = [self._moment(row.values, name) for row in rows if name and row.values.get(name)]
        return min(known, default=ended)

    def _reward(self, values: Values[str, str | None]) -> float | None:
        name = self.columns.reward
        return number(values.get(name), name) if name else None

    def _total(self, known: Sequence[float]) -> float:
        if not known:
            return 0.0
        total = known[-1] if self.mapping.rewards == "last" else sum(known)
        return number(total, str(self.columns.reward)) or 0.0

    def _turns(self, rewards: Sequence[float | None]) -> list[Turn]:
        """A turn a call, where each has a reward of its own."""
        if self.mapping.rows != "call" or self.mapping.rewards != "sum" or self.columns.reward is None:
            return []
        return [Turn(turn=place, reward=reward or 0.0) for place, reward in enumerate(rewards)]

    def consent(self, rows: Sequence[Row]) -> bool | None:
        """What the rows say; one that says no counts for all."""
        name = self.columns.consent
        said = [flag(row.values.get(name)) for row in rows] if name else []
        return False if False in said else True if True in said else None

    def _steps(self, rows: Sequence[Row], own: str) -> Steps:
        """The calls, and how many were left out because they lack a prompt or a response."""
        alone = self.columns.response is None
        spoken = self._of_conversation(rows[0].values) if alone else [self._spoken(row.values) for row in rows]
        found = Steps()
        for turn, raw in enumerate(spoken):
            found.add_calls([(raw, f"{own}-call-{turn}-0")], turn)
        if not found.calls:
            raise invalid(self.columns.response or str(self.columns.messages), Reason.NO_CALL)
        return found

    def _spoken(self, values: Values[str, str | None]) -> dict[str, Any]:
        names = self.columns.model_dump(include=set(SPOKEN))
        found = {SPOKEN[ours]: self._json(values, name) for ours, name in names.items() if name}
        return found | {"model": self._model(values)}

    def _model(self, values: Values[str, str | None]) -> str | None:
        return self._text(values, self.columns.model) or self.mapping.model

    def _json(self, values: Values[str, str | None], name: str) -> Any:
        """The value; decoded where the column's type says that it is JSON or a list."""
        text, kind = values.get(name), self.relation.columns[name]
        if text is None:
            return None
        if kind.endswith("[]"):
            text, kind = text.replace("{", "[").replace("}", "]").replace("NULL", "null"), "json"
        if kind not in {"json", "jsonb"}:
            return text
        value, dirty = decode(text, name)
        return clean(value) if dirty else value

    def _of_conversation(self, values: Values[str, str | None]) -> list[dict[str, Any]]:
        """A call for each message of the assistant, sent what stands before it."""
        name = str(self.columns.messages)
        listed, dirty = decode(values.get(name) or "null", name)
        if not isinstance(listed, list):
            raise invalid(name, Reason.NOT_A_LIST)
        if not all(isinstance(message, dict) for message in listed):
            raise invalid(name, Reason.NOT_AN_OBJECT)
        told = clean(listed) if dirty else listed
        beside = {key: value for key, value in self._spoken(values).items() if key in {"model", "tools", "temperature"}}
        ends = [place for place, message in enumerate(told, 1) if message.get("role") == "assistant"]
        return [beside | {"messages": told[:end]} for end in ends]
