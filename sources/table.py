"""Any table or view of a Postgres, by a mapping file that says what its columns are: ``table:///srv/runs.toml``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby, islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from db.foreign import Door, Row, named, snapshot
from db.foreign_conditions import EVERY_ROW, Condition, During, Listed, Relation, column_of, time_type
from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId, hour_of
from sources.consent import unusable
from sources.table_mapping import Mapping, load
from sources.table_rows import Rows
from sources.values import Reason, invalid, overlaps

MOST_CALLS = 10_000
"""Rows of one trajectory; more are not held at once."""


class Table:
    """The trajectories of one relation. Read only, like ``sources.babylon``; a trajectory is of the hour it ended in.

    With one row a call a window's trajectories are those whose last row is in it: an index on ``ended`` and one on
    ``trajectory`` keep a window's read from scanning the table.
    """

    def __init__(self, mapping: Mapping, url: str) -> None:
        self.mapping, self._url = mapping, url

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all, and in their place the rows that cannot be used, with the reason."""
        if window is not None and window.hour is None:
            return
        with snapshot(self._url) as door:
            relation = self._relation(door)
            where = self._touching(window.hour, window.ends_at) if window and window.hour else EVERY_ROW
            rows = Rows(self.mapping, relation)
            for group in self._groups(door, relation, where):
                found = self._tried(rows, group)
                if window is None or self._of(group, rows, window):
                    yield found

    def holds(self, window: WindowId) -> bool:
        """Whether some row, usable or not, is of that hour."""
        if window.hour is None or window.ends_at is None:
            return False
        return self.hours(window.hour, window.ends_at) != {}

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Trajectories by the hour they ended in, usable or not, between ``since`` and before ``until``."""
        margin = timedelta(hours=1)
        where = self._touching(since and since - margin, None if self._by_call else until and until + margin)
        with snapshot(self._url) as door:
            found = door.hours(
                self._relation(door),
                self.mapping.columns.ended,
                where,
                last_of=self.mapping.columns.trajectory if self._by_call else None,
                ticks=self.mapping.ticks,
            )
        counts: Counter[str] = Counter()
        for hour, count in found.items():
            if overlaps(window := hour_of(hour), since, until):
                counts[window.text] += count
        return dict(sorted(counts.items()))

    @property
    def _by_call(self) -> bool:
        return self.mapping.rows == "call"

    def _touching(self, start: datetime | None, end: datetime | None) -> Condition:
        during = During(self.mapping.columns.ended, start, end, self.mapping.ticks)
        return Listed(self.mapping.columns.trajectory, during) if self._by_call else during

    def _relation(self, door: Door) -> Relation:
        relation = door.relation(self.mapping.relation)
        if relation is None:
            remedy = "no such table or view for this role; grant SELECT on it, or correct the mapping"
            raise InvalidInput("relation", self.mapping.relation, remedy)
        for name in self.mapping.columns.names:
            column_of(relation, name)
        for name in filter(None, (self.mapping.columns.ended, self.mapping.columns.started)):
            time_type(relation, name)
        return relation

    def _groups(self, door: Door, relation: Relation, where: Condition) -> Iterator[Sequence[Row]]:
        """The rows of one trajectory after those of another; at most ``MOST_CALLS`` and one."""
        columns = self.mapping.columns
        if not self._by_call:
            for batch in door.batches(relation, columns.names, where):
                yield from ([row] for row in batch)
            return
        order = (columns.trajectory, str(columns.order))
        rows = (row for batch in door.batches(relation, columns.names, where, order) for row in batch)
        for _, group in groupby(rows, key=lambda row: row.values[columns.trajectory]):
            yield list(islice(group, MOST_CALLS + 1))

    def _tried(self, rows: Rows, group: Sequence[Row]) -> Trajectory | Quarantined:
        try:
            if len(group) > MOST_CALLS:
                raise invalid(self.mapping.columns.trajectory, Reason.TOO_LARGE)
            return rows.trajectory(group)
        except InvalidRow as error:
            texts = (row.values.get(error.field) for row in group)
            own, text = group[0].values[self.mapping.columns.trajectory], next(filter(None, texts), None)
            consent = rows.consent(group)
            return unusable("table", own or "no id", error, text, consent=consent, trajectory_id=own)

    def _of(self, group: Sequence[Row], rows: Rows, window: WindowId) -> bool:
        """Whether the last of the rows is of that hour; a row alone was chosen by the database."""
        return not self._by_call or (last := rows.last(group)) is None or hour_of(last).text == window.text


def connect(url: str) -> Table:
    """The table that the mapping at ``table:///path/mapping.toml`` describes.

    Raises:
        InvalidInput: there is no such file, a key of it is wrong, or its environment variable is not set.
    """
    path = Path(unquote(urlsplit(url).path))
    if not path.is_file():
        raise InvalidInput("line.source", url, "no such mapping file; give an absolute path after table://")
    mapping = load(path)
    return Table(mapping, named(mapping.variable))
