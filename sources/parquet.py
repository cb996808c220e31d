"""Parquet files, one ``rl.records.Trajectory`` a row: ``parquet:///path``, a file or a folder of ``*.parquet``.

Columns are named as the trajectory's fields; others are not read. Nested values are Arrow lists and structs, or JSON
text. Arrow cannot tell a field that is not there from one that is null, so nulls stand for the field's default. Times
without a zone are UTC. Without a reward, or with a null, the reward is 0 and the metadata say ``"reward": None``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId, hour_of
from sources.consent import unusable
from sources.jsonl import parse
from sources.values import Reason, decode, flag, invalid, moment, overlaps, quarantined

BATCH_ROWS = 64
"""Rows that are decoded at once."""

COLUMNS = tuple(Trajectory.model_fields)
NEEDED = ("trajectory_id", "scenario_id", "agent_id", "started_at", "ended_at", "calls")
IDS = ("trajectory_id", "scenario_id", "agent_id")
TOKENS = ("prompt_token_ids", "token_ids", "logprobs")
FREE = ("metadata", "state", "parameters", "outcome", "result", "tools", "tool_calls")
"""Fields whose inside is the agent's own: nothing in it is decoded, as nothing in a ``result`` is."""
JSON_TEXT = frozenset(("calls", "turns", "messages", "response", "action", *TOKENS, *FREE)) - {"result"}
"""Fields that are never text of their own."""


class Parquet:
    """Trajectories in the rows of Parquet files; the window of a row is the UTC hour it ended in.

    Files are read one after the other, by name, a few rows at a time. A row or a file that cannot be used is reported
    with every window.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all of them, and unusable rows, in the order of files and rows."""
        for file in _files(self.path):
            try:
                for number, row in _rows(file, COLUMNS, window):
                    yield from _one(f"{file.name}:{number}", row, window)
            except InvalidRow as error:
                yield quarantined("parquet", file.name, error, None)

    def holds(self, window: WindowId) -> bool:
        """Whether some usable row ended in that hour."""
        return any(isinstance(row, Trajectory) for row in self.read(window))

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Rows by the hour they ended in, of hours with some moment from ``since`` to before ``until``.

        Only the times are read: a row that cannot be used for another reason is counted.
        """
        ended = (hour for file in _files(self.path) for hour in _hours(file))
        return dict(sorted(Counter(one.text for one in ended if overlaps(one, since, until)).items()))


def connect(url: str) -> Parquet:
    """The file or folder that ``parquet:///path`` names.

    Raises:
        InvalidInput: there is nothing, no ``*.parquet`` in the folder, or pyarrow is not installed.
    """
    path = Path(unquote(urlsplit(url).path))
    if not _files(path):
        raise InvalidInput("line.source", url, "no such file, nor a folder of *.parquet; give an absolute path")
    try:
        import pyarrow.parquet  # noqa: F401 - asked for here, before any row is
    except ImportError:
        raise InvalidInput("line.source", url, "Parquet needs pyarrow: install rlfleet[parquet]") from None
    return Parquet(path)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(one for one in path.rglob("*.parquet") if one.is_file())
    return [path] if path.is_file() else []


def _one(row: str, values: dict[str, Any], window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
    try:
        found = _trajectory(values)
    except InvalidRow as error:
        yield _unusable(row, values, error)
        return
    if window is None or hour_of(found.ended_at).text == window.text:
        yield found


def _unusable(row: str, values: dict[str, Any], error: InvalidRow) -> Quarantined:
    consent, own = (_plain(values.get(name), name) for name in ("consent", "trajectory_id"))
    own = str(own) if isinstance(own, int) else own
    said = json.dumps(values, default=str)
    return unusable("parquet", row, error, said, consent=flag(consent), trajectory_id=own)


def _trajectory(values: dict[str, Any]) -> Trajectory:
    """Raises ``InvalidRow`` for what ``sources.jsonl`` would refuse, and for JSON text that is none."""
    fields = {name: _plain(value, name) for name, value in values.items() if value is not None}
    for name in ("started_at", "ended_at"):
        at = moment(fields.get(name), name)
        if at is None:
            raise invalid(name, Reason.MISSING)
        fields[name] = at.isoformat()
    fields |= {name: str(fields[name]) for name in IDS if isinstance(fields.get(name), int)}
    if "consent" in fields:
        fields["consent"] = flag(fields["consent"])
    if "reward" not in fields:
        fields |= {"reward": 0.0, "metadata": {**_object(fields), "reward": None}}
    return parse(json.dumps(fields, default=str))


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise invalid("metadata", Reason.NOT_AN_OBJECT)
    return metadata


def _plain(value: Any, name: str) -> Any:
    """A value as JSON has it: text decoded where a field is never text, and structs without their nulls."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return decode(value, name)[0] if name in JSON_TEXT else value
    if isinstance(value, datetime):
        return _utc(value).isoformat()
    if isinstance(value, dict):
        return {key: _plain(one, "result" if name in FREE else key) for key, one in value.items() if one is not None}
    if isinstance(value, list) and not (value and isinstance(value[0], int | float)):  # token ids are many
        return [_plain(one, name) for one in value]
    return value


def _rows(path: Path, columns: tuple[str, ...], window: WindowId | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers in the file, from 1 on, of the row groups that may hold some of the window.

    Raises:
        InvalidRow: the file is not Parquet, lacks a column, or cannot be read to its end.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            for name in NEEDED:
                if name not in there:
                    raise invalid(name, Reason.MISSING)
            wanted = [name for name in columns if name in there]
            number = 0
            for group in range(file.num_row_groups):
                if not _may_hold(file, group, window):
                    number += file.metadata.row_group(group).num_rows
                    continue
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted):
                    for row in _micro(batch).to_pylist(maps_as_pydicts="lossy"):
                        number += 1
                        yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InvalidRow("file", str(path), f"not readable as Parquet: {type(error).__name__}") from None


def _micro(batch: Any) -> Any:
    """The batch with times in microseconds: Python's know no nanoseconds."""
    import pyarrow

    for place, field in enumerate(batch.schema):
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            cast = batch.column(place).cast(pyarrow.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(place, field.name, cast)
    return batch


def _may_hold(file: Any, group: int, window: WindowId | None) -> bool:
    """Whether the statistics of a row group leave room for a row that ended in the window."""
    if window is None or window.hour is None or window.ends_at is None:
        return True
    described = file.metadata.row_group(group)
    for place in range(described.num_columns):
        column = described.column(place)
        if column.path_in_schema == "ended_at" and column.statistics is not None and column.statistics.has_min_max:
            low, high = column.statistics.min, column.statistics.max
            if isinstance(low, datetime) and isinstance(high, datetime):
                return _utc(low) < window.ends_at and _utc(high) >= window.hour
    return True


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _hours(path: Path) -> Iterator[WindowId]:
    """The hour of each row that has one; none of a file that cannot be read."""
    with suppress(InvalidRow):
        for _, row in _rows(path, ("ended_at",)):
            with suppress(InvalidRow):
                at = moment(_plain(row["ended_at"], "ended_at"), "ended_at")
                if at is not None:
                    yield hour_of(at)
