"""Trajectories in Parquet files, with nested values as Arrow's own or as JSON text."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl.errors import InvalidInput
from rl.records import Action, Message, Quarantined, Trajectory
from rl.windows import parse as window
from sources.parquet import BATCH_ROWS, connect

TEN, ELEVEN = window("2025-01-15T10:00"), window("2025-01-15T11:00")
CALL = {
    "call_id": "c0",
    "turn": 0,
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "red ball ahead"}],
    "response": {"role": "assistant", "content": "go", "tool_calls": [{"id": "1", "type": "function"}]},
}


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 1, 15, hour, minute, tzinfo=UTC)


def row(trajectory_id: str = "t1", **fields: Any) -> dict[str, Any]:
    return {
        "trajectory_id": trajectory_id,
        "scenario_id": "s1",
        "agent_id": "a1",
        "started_at": at(10, 5),
        "ended_at": at(10, 6),
        "reward": 1.0,
        "calls": [CALL],
    } | fields


def write(path: Path, *rows: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path


def read(path: Path) -> list[Trajectory | Quarantined]:
    return list(connect(f"parquet://{path}").read(None))


def only(path: Path) -> Trajectory:
    (found,) = read(path)
    assert isinstance(found, Trajectory), found
    return found


def test_nested_values_of_arrow_are_a_trajectory(tmp_path: Path) -> None:
    said = {**CALL, "prompt_token_ids": [1, 2], "token_ids": [3], "logprobs": [-0.5]}
    mute = {**CALL, "call_id": "c1", "response": {"role": "assistant", "content": "stop"}}
    turns = [{"turn": 0, "at": at(10, 5), "state": {"outcome": "YES"}, "action": {"kind": "GO"}, "reward": 0.5}]
    found = only(write(tmp_path / "a.parquet", row(calls=[said, mute], turns=turns, consent=True)))
    assert found.calls[0].has_tokens
    assert found.calls[1].response == Message(role="assistant", content="stop")
    assert (found.turns[0].state, found.turns[0].action) == ({"outcome": "YES"}, Action(kind="GO"))
    assert (found.turns[0].at, found.reward, found.consent) == (at(10, 5), 1.0, True)


def test_nested_values_as_text_are_the_same(tmp_path: Path) -> None:
    arrow = only(write(tmp_path / "a.parquet", row(metadata={"x": 1})))
    whole = row(calls=json.dumps([CALL]), metadata=json.dumps({"x": 1}))
    assert only(write(tmp_path / "b.parquet", whole)) == arrow
    inner = {**CALL, "messages": json.dumps(CALL["messages"]), "response": json.dumps(CALL["response"])}
    assert only(write(tmp_path / "c.parquet", row(calls=[inner], metadata={"x": 1}))) == arrow


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("ms"), pa.timestamp("s", "+09:00"), pa.int64()],
    ids=str,
)
def test_times_are_read_in_every_unit(tmp_path: Path, kind: pa.DataType) -> None:
    unit = kind.unit if pa.types.is_timestamp(kind) else "ms"
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = pa.Table.from_pylist([row()])
    for name, moment in (("started_at", at(10, 5)), ("ended_at", at(10, 6))):
        count = int(moment.timestamp()) * scale + (1 if unit == "ns" else 0)
        column = pa.array([count], pa.int64()).cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, tmp_path / "a.parquet")
    found = only(tmp_path / "a.parquet")
    assert (found.started_at, found.ended_at) == (at(10, 5), at(10, 6))


def test_a_reward_that_is_not_there_is_told_from_zero(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", row("none", reward=None), row("zero", reward=0.0))
    none, zero = read(tmp_path / "a.parquet")
    assert isinstance(none, Trajectory)
    assert isinstance(zero, Trajectory)
    assert (none.reward, none.metadata) == (0.0, {"reward": None})
    assert (zero.reward, zero.metadata) == (0.0, {})
    bare = {name: value for name, value in row().items() if name != "reward"}
    assert only(write(tmp_path / "b.parquet", bare)).metadata == {"reward": None}


def test_other_columns_and_numbers_for_ids_do_no_harm(tmp_path: Path) -> None:
    found = only(write(tmp_path / "a.parquet", row(7, agent_id=8, __index_level_0__=3, notes="x")))  # type: ignore[arg-type]
    assert (found.trajectory_id, found.agent_id) == ("7", "8")


BAD = {
    "null id": (row(agent_id=None), "agent_id", "Field required"),
    "nan": (row(reward=float("nan")), "reward", "Value error, must be a finite number"),
    "no time": (row(ended_at=None), "ended_at", "missing"),
    "no call": (row(calls=[]), "calls", "no assistant turn; a trajectory needs at least one"),
    "half json": (row(calls='[{"call_id": '), "calls", "not JSON"),
    "metadata": (row(metadata="[1]", reward=None), "metadata", "not an object"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_quarantined_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    bad, field, reason = BAD[name]
    text = {"calls": json.dumps([CALL]), "metadata": "{}"}
    good = row() | {key: value for key, value in text.items() if isinstance(bad.get(key), str)}
    write(tmp_path / "a.parquet", good, bad, good)
    first, found, last = read(tmp_path / "a.parquet")
    assert isinstance(first, Trajectory)
    assert isinstance(last, Trajectory)
    assert isinstance(found, Quarantined)
    assert (found.source, found.row, found.field, found.reason) == ("parquet", "a.parquet:2", field, reason)
    assert found.excerpt.startswith('{"trajectory_id": "t1"')


def test_a_folder_is_read_by_name_and_a_broken_file_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    write(tmp_path / "day" / "c.parquet", row("c"))
    write(tmp_path / "a.parquet", row("a"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    write(tmp_path / "d.parquet", {"x": 1})
    (tmp_path / "readme.txt").touch()
    shown = [one.trajectory_id if isinstance(one, Trajectory) else f"{one.row} {one.field}" for one in read(tmp_path)]
    assert shown == ["a", "b.parquet file", "d.parquet trajectory_id", "c"]


def test_windows_and_hours(tmp_path: Path) -> None:
    rows = [row(f"t{n}", ended_at=at(10 + n // 100, n % 60)) for n in range(200)]
    path = write(tmp_path / "a.parquet", *rows, row("bad", ended_at=None), row_group_size=50)
    source = connect(f"parquet://{path}")
    eleven = [one for one in source.read(ELEVEN) if isinstance(one, Trajectory)]
    assert [one.trajectory_id for one in eleven] == [f"t{n}" for n in range(100, 200)]
    assert source.hours() == {"2025-01-15T10:00": 100, "2025-01-15T11:00": 100}
    assert source.hours(since=at(11)) == {"2025-01-15T11:00": 100}
    assert source.hours(until=at(11)) == {"2025-01-15T10:00": 100}
    assert [source.holds(one) for one in (TEN, ELEVEN, window("2025-01-15T12:00"))] == [True, True, False]


def test_row_groups_of_other_hours_are_not_decoded(tmp_path: Path) -> None:
    # Each bad row would be reported with every window, unless its row group is known to hold other hours.
    rows = [row("early", reward=float("nan")), row("late", ended_at=at(11, 1), reward=float("nan"))]
    path = write(tmp_path / "a.parquet", *rows, row_group_size=1)
    found = list(connect(f"parquet://{path}").read(ELEVEN))
    assert [one.row for one in found if isinstance(one, Quarantined)] == ["a.parquet:2"]


def test_rows_are_numbered_over_batches_and_row_groups(tmp_path: Path) -> None:
    rows = [row(f"t{n}", agent_id=None if n == BATCH_ROWS + 5 else "a") for n in range(3 * BATCH_ROWS)]
    path = write(tmp_path / "a.parquet", *rows, row_group_size=2 * BATCH_ROWS)
    bad = [one.row for one in read(path) if isinstance(one, Quarantined)]
    assert bad == [f"a.parquet:{BATCH_ROWS + 6}"]


@pytest.mark.parametrize("name", ["none.parquet", "empty"])
def test_nothing_to_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"no such file, nor a folder of \*\.parquet"):
        connect(f"parquet://{tmp_path / name}")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", row())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidInput, match=r"install rlfleet\[parquet\]"):
        connect(f"parquet://{tmp_path / 'a.parquet'}")


def test_pyarrow_is_loaded_with_the_first_file() -> None:
    code = "import sys, sources.parquet; print('pyarrow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
