"""A Babylon-style Postgres: ``trajectories`` with its steps as JSON text, ``llm_call_logs``, ``market_outcomes``.

Columns are quoted camelCase; those that are not there are done without. Nothing is ever written: one read is one
read-only transaction, and a role that has SELECT on the three tables is enough. The last two may be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from db.foreign import Door, Row, named, snapshot
from db.foreign_conditions import EVERY_ROW, Among, Condition, Relation
from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId, hour_of
from sources.babylon_rows import COLUMNS, REQUIRED, Draft, consent_of, draft, finish
from sources.babylon_windows import in_window, named_between, spellings, unnamed_between, window_of
from sources.consent import unusable
from sources.values import decode, number, overlaps

TRAJECTORIES, LOGS, OUTCOMES = "trajectories", "llm_call_logs", "market_outcomes"
LOG_COLUMNS = (
    *("trajectoryId", "stepId", "callId", "timestamp", "model", "systemPrompt", "userPrompt", "messagesJson"),
    *("response", "reasoning", "temperature", "metadata"),
)
OUTCOME_COLUMNS = (
    *("windowId", "stockTicker", "startPrice", "endPrice", "changePercent", "sentiment", "newsEvents"),
    *("predictionMarketId", "question", "outcome", "finalProbability", "volume", "createdAt"),
)
OUTCOME_NUMBERS = ("startPrice", "endPrice", "changePercent", "finalProbability", "volume")
AT_ONCE = 50
"""Trajectories whose calls are looked for in the log with one query."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

Json = Mapping[str, Any]
Found = TypeVar("Found")


class Babylon:
    """The trajectories of such a database; see ``sources.babylon_windows`` for which hour a row belongs to."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all, and in their place the rows that cannot be used, with the reason."""
        with snapshot(self._url) as door:
            tables = Tables.of(door)
            where = in_window(tables.trajectories, window) if window else EVERY_ROW
            if where is not None:
                yield from tables.read(where)

    def holds(self, window: WindowId) -> bool:
        """Whether there is at least one row of that window, usable or not."""
        with snapshot(self._url) as door:
            relation = trajectories_of(door)
            where = in_window(relation, window)
            return where is not None and door.any_row(relation, where)

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Rows by hour window, usable or not, of hours with some moment from ``since`` to before ``until``."""
        with snapshot(self._url) as door:
            relation = trajectories_of(door)
            unnamed = door.hours(relation, "endTime", unnamed_between(relation, since, until))
            counted = [(hour_of(hour), count) for hour, count in unnamed.items()]
            if "windowId" in relation.columns:
                texts = door.counts(relation, "windowId", named_between(since, until))
                counted += [(one, count) for text, count in texts.items() if (one := window_of(text))]
        found: Counter[str] = Counter()
        for window, count in counted:
            if overlaps(window, since, until):
                found[window.text] += count
        return dict(sorted(found.items()))


def connect(url: str) -> Babylon:
    """The database whose Postgres URL is in the environment variable NAME of ``babylon://NAME``.

    Raises:
        InvalidInput: NAME is no variable's name, or the variable is not set or holds something else.
    """
    return Babylon(named(variable_of(url)))


def variable_of(url: str) -> str:
    """The variable's name in ``babylon://NAME``.

    Raises:
        InvalidInput: it is something else, such as a URL with a password; that is not shown.
    """
    parts = urlsplit(url)
    if not VARIABLE.fullmatch(parts.netloc) or parts.path.strip("/") or parts.query or parts.fragment:
        remedy = (
            f"write {parts.scheme}://NAME, where NAME is an environment variable with the postgresql:// URL: "
            "a source's own URL is stored and shown"
        )
        raise InvalidInput("line.source", f"{parts.scheme}://<hidden>", remedy)
    return parts.netloc


def trajectories_of(door: Door) -> Relation:
    """The table of trajectories.

    Raises:
        InvalidInput: it is not there for this role, or lacks a column that nothing can replace.
    """
    relation = door.relation(TRAJECTORIES)
    if relation is None:
        remedy = "no such table for this role; grant SELECT on it, or read another one through table:// with a mapping"
        raise InvalidInput("source", TRAJECTORIES, remedy)
    for name in REQUIRED:
        if name not in relation.columns:
            remedy = f"{TRAJECTORIES} has no such column for this role; read it through table:// with a mapping"
            raise InvalidInput("source", name, remedy)
    return relation


@dataclass
class Tables:
    """What of the three tables is there, and a read of them within one snapshot."""

    door: Door
    trajectories: Relation
    logs: Relation | None
    outcomes: Relation | None
    _markets: dict[str, list[Json]] = field(default_factory=dict)

    @classmethod
    def of(cls, door: Door) -> Tables:
        logs, outcomes = door.relation(LOGS), door.relation(OUTCOMES)
        usable = logs and {"trajectoryId", "response"} <= set(logs.columns)
        known = outcomes and "windowId" in outcomes.columns
        return cls(door, trajectories_of(door), logs if usable else None, outcomes if known else None)

    def read(self, where: Condition) -> Iterator[Trajectory | Quarantined]:
        columns = [name for name in dict.fromkeys(COLUMNS) if name in self.trajectories.columns]
        for batch in self.door.batches(self.trajectories, columns, where):
            rest = iter(batch)
            while rows := list(islice(rest, AT_ONCE)):
                yield from self._normalised(rows)

    def _normalised(self, rows: Sequence[Row]) -> Iterator[Trajectory | Quarantined]:
        drafts = [_tried(row, partial(draft, row.values, row.too_large)) for row in rows]
        logged = self._logged([one.trajectory_id for one in drafts if isinstance(one, Draft) and one.lacks_calls])
        for row, one in zip(rows, drafts, strict=True):
            if isinstance(one, Quarantined):
                yield one
            else:
                markets = self._of_window(one.window)
                yield _tried(row, partial(finish, one, logged.get(one.trajectory_id, ()), markets))

    def _logged(self, ids: Sequence[str]) -> dict[str, list[Json]]:
        """Logged calls by trajectory, in order of time."""
        found: dict[str, list[Json]] = {}
        if not ids or self.logs is None:
            return found
        columns = [name for name in LOG_COLUMNS if name in self.logs.columns]
        for batch in self.door.batches(self.logs, columns, Among("trajectoryId", ids)):
            for row in batch:
                found.setdefault(str(row.values["trajectoryId"]), []).append(_logged_call(row.values))
        for calls in found.values():
            calls.sort(key=lambda one: (str(one.get("timestamp")), _natural(str(one.get("callId")))))
        return found

    def _of_window(self, window: WindowId) -> list[Json]:
        """How the window's markets went, the newest row of each."""
        if self.outcomes is None:
            return []
        if window.text not in self._markets:
            if len(self._markets) >= AT_ONCE:
                self._markets.clear()
            self._markets[window.text] = self._markets_of(self.outcomes, window)
        return self._markets[window.text]

    def _markets_of(self, outcomes: Relation, window: WindowId) -> list[Json]:
        columns = [name for name in OUTCOME_COLUMNS if name in outcomes.columns]
        batches = self.door.batches(outcomes, columns, Among("windowId", spellings(window)))
        rows = sorted((_market(row.values) for batch in batches for row in batch), key=lambda row: row["createdAt"])
        newest = {(row.get("stockTicker"), row.get("predictionMarketId")): row for row in rows}
        return list(newest.values())


def _tried(row: Row, attempt: Callable[[], Found]) -> Found | Quarantined:
    try:
        return attempt()
    except InvalidRow as error:
        text = row.values.get(error.field.partition(".")[0])
        trajectory_id, consent = row.values.get("trajectoryId"), consent_of(row.values)
        own = trajectory_id or row.values.get("id") or "no id"
        return unusable("babylon", own, error, text, consent=consent, trajectory_id=trajectory_id)


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts ``call-2-10`` behind ``call-2-9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d{1,18})", text)]


def _logged_call(values: Mapping[str, str | None]) -> Json:
    """A row of the log; the version of the model is in its metadata."""
    call = {name: value for name, value in values.items() if name != "metadata"}
    try:
        more, _ = decode(values.get("metadata") or "null", "metadata")
    except InvalidRow:
        return call
    return call | {"modelVersion": more.get("modelVersion")} if isinstance(more, dict) else call


def _market(values: Mapping[str, str | None]) -> dict[str, Any]:
    row: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    for name in OUTCOME_NUMBERS:
        try:
            row[name] = number(values.get(name), name)
        except InvalidRow:
            row[name] = None
    return {"createdAt": ""} | {name: value for name, value in row.items() if value is not None}
