"""A dataset's calls out of real partitions, in the order they are trained in, as ``db.calls`` reads them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import calls, datasets, dispatch, streaming, trajectories, windows
from db.calls import NewCall
from db.session import transaction
from rl.dataset_line import dataset_line
from rl.protocol import DatasetRow
from rl.records import Trajectory
from rl.windows import parse
from tests.conftest_database import add_line

HOURS = ("2025-01-15T10:00", "2025-01-23T10:00")
"""Of two weeks, so of two partitions."""


def add_dataset(names: dict[str, str], spoken: list[NewCall]) -> int:
    """A dataset of trajectories by hour, with those calls; its id. Scenarios are the last letters of the names."""
    with transaction() as session:
        line = add_line(session)
        rows, ids = [], {hour: windows.ensure(session, line.id, parse(hour), state="scored") for hour in HOURS}
        for name, hour in names.items():
            moment = parse(hour).hour
            one = Trajectory(
                trajectory_id=name,
                scenario_id=name[-1],
                agent_id="a",
                started_at=moment,
                ended_at=moment,
                reward=0.5,
                calls=[],
            )
            trajectories.insert_trajectories(session, line.id, ids[hour], "bench", [one])
            rows.append(trajectories.Scored(name, hour, name[-1], 0.5, 0.25))
        calls.insert(session, spoken)
        job = dispatch.request(session, dispatch.Spec("train", line.id, {}, {}, "gpu"))
        return datasets.freeze(session, line.id, job, list(ids.values()), rows, {}).id


def said(trajectory: str, call_id: str, turn: int, place: int = 0, **fields: Any) -> NewCall:
    values: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"see {call_id} ü"}],
        "response": {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "arguments": None}]},
    }
    return NewCall(call_id, trajectory, turn, "main", "m", None, place=place, **(values | fields))


def test_the_order_is_of_code_points_and_of_what_was_said_first(fresh: str) -> None:
    names = {"é/a": HOURS[1], "z/a": HOURS[1], "Z/a": HOURS[1], "a/b": HOURS[0], "b/a": HOURS[0], "none/b": HOURS[0]}
    spoken = [said(name, f"{name}{turn}{place}", turn, place) for name in names for turn in (1, 0) for place in (1, 0)]
    spoken = [one for one in spoken if one.trajectory_id != "none/b"]
    spoken += [said("z/a", "ß", 5), said("z/a", "z", 5), said("z/a", "B", 5)]
    dataset = add_dataset(names, spoken)
    with streaming.snapshot() as session:
        found = list(streaming.of_dataset(session, dataset))
        assert [one.trajectory_id for one, _ in found] == [
            one.trajectory_id for one in datasets.rows_of(session, dataset)
        ]
    assert [one[:3] for one, _ in found] == [
        ("b/a", "2025-01-15T10:00 a", 0.25),
        ("a/b", "2025-01-15T10:00 b", 0.25),
        ("none/b", "2025-01-15T10:00 b", 0.25),
        ("Z/a", "2025-01-23T10:00 a", 0.25),
        ("z/a", "2025-01-23T10:00 a", 0.25),
        ("é/a", "2025-01-23T10:00 a", 0.25),
    ]
    by_name = {one.trajectory_id: [call.call_id for call in several] for one, several in found}
    assert by_name["none/b"] == []
    assert by_name["z/a"] == ["z/a00", "z/a01", "z/a10", "z/a11", "B", "z", "ß"]


def test_calls_of_one_turn_and_place_are_in_the_order_of_their_storing(fresh: str) -> None:
    dataset = add_dataset({"t/a": HOURS[0]}, [said("t/a", "later", 0), said("t/a", "sooner", 0)])
    with transaction() as session:
        session.execute(text("update rlfleet.calls set created_at = now() - interval '1 h' where call_id = 'sooner'"))
    with streaming.snapshot() as session:
        ((_, several),) = streaming.of_dataset(session, dataset)
    assert [call.call_id for call in several] == ["sooner", "later"]
    moments = [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=call.created_at) for call in several]
    assert timedelta(minutes=59) < moments[1] - moments[0] < timedelta(minutes=61)
    assert abs(datetime.now(UTC) - moments[1]) < timedelta(minutes=1)


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_lines_are_those_of_the_records(fresh: str, monkeypatch: pytest.MonkeyPatch, at_once: int, seed: int) -> None:
    """The two ways from rows to a dataset: streamed bytes, and records of pydantic."""
    monkeypatch.setattr(streaming, "FIRST_AT_ONCE", at_once)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 2_000)
    chance = random.Random(seed)
    names = {f"{chance.choice('tTé')}{number}/{chance.choice('ab')}": chance.choice(HOURS) for number in range(25)}
    spoken = [_random_call(chance, name, turn) for name in names for turn in range(chance.randint(0, 4))]
    dataset = add_dataset(names, spoken)
    with streaming.snapshot() as session:
        streamed = [dataset_line(*one[:3], several) for one, several in streaming.of_dataset(session, dataset)]
        rows = datasets.rows_of(session, dataset)
        records = calls.of_trajectories(session, list(names))
    expected = []
    for row in rows:
        plain = [one.model_dump(mode="json", exclude_none=True) for one in records[row.trajectory_id]]
        line = DatasetRow(trajectory_id=row.trajectory_id, group=row.group, score=row.score, calls=plain)
        expected.append(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
    assert streamed == expected


def test_tiny_calls_whose_frames_are_the_most_of_them_are_read(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "FIRST_AT_ONCE", 64)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 1_000)
    tiny: dict[str, Any] = {"messages": [], "response": {"role": "assistant", "content": ""}}
    names = {f"t{number}/a": HOURS[0] for number in range(9)}
    dataset = add_dataset(names, [NewCall(f"c-{one}", one, 0, "main", "m", None, **tiny) for one in names])
    with streaming.snapshot() as session:
        assert [len(several) for _, several in streaming.of_dataset(session, dataset)] == [1] * 9


def _random_call(chance: random.Random, trajectory: str, turn: int) -> NewCall:
    fields: dict[str, Any] = {
        "messages": [
            {
                "content": "".join(chance.choices('a"\\\n\x00\x1f\ud800é😀', k=9)),
                "role": chance.choice(["user", "tool"]),
            }
            for _ in range(chance.randint(0, 5))
        ]
    }
    if chance.random() < 0.5:
        count = chance.randint(0, 6)
        fields["prompt_token_ids"] = [chance.randrange(2**31) for _ in range(chance.randint(0, 6))]
        fields["token_ids"] = [chance.randrange(150_000) for _ in range(count)]
        fields["logprobs"] = [-chance.expovariate(1) for _ in range(count)]
        fields["temperature"] = chance.choice([None, 0.7, 1e-7, 1.0])
    if chance.random() < 0.3:
        fields["tools"] = [{"type": "function", "function": {"name": "go", "strict": None, "weight": 1e22}}]
    return said(trajectory, f"{trajectory}-{turn}", turn, chance.randint(0, 3), **fields)


def test_a_batch_is_as_large_as_memory_allows(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes are aimed at; it grows twofold at most, and never past the most trajectories.

    Eight that are more than twice as many bytes are let go by, and read again one by one.
    """
    sizes: list[int] = []
    read = streaming._read

    def counted(session: Any, some: Any) -> Any:
        sizes.append(len(some))
        return read(session, some)

    monkeypatch.setattr(streaming, "_read", counted)
    monkeypatch.setattr(streaming, "FIRST_AT_ONCE", 2)
    monkeypatch.setattr(streaming, "MOST_AT_ONCE", 8)
    names = {f"t{number:02}/a": HOURS[0] for number in range(40)}
    long: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * 10_000}]}
    spoken = [said(name, name, 0, 0, **(long if name >= "t22" else {})) for name in names]
    dataset = add_dataset(names, spoken)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 20_000)
    with streaming.snapshot() as session:
        assert len(list(streaming.of_dataset(session, dataset))) == 40
    assert sizes == [2, 4, 8, 8, 8, *[1] * 8, *[1] * 10]


@pytest.mark.parametrize("order", ["small first", "large first", "mixed"])
def test_what_is_held_is_bounded_whatever_the_order_of_sizes(
    fresh: str, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """At most twice what is aimed at, or one trajectory; and each has the calls that it has."""
    chance = random.Random(7)
    sizes = {f"t{number:03}/a": 40_000 if number < 20 else 10 for number in range(200)}
    if order == "small first":
        sizes = dict(zip(sizes, reversed(sizes.values()), strict=True))
    elif order == "mixed":
        sizes = dict(zip(sizes, chance.sample(list(sizes.values()), len(sizes)), strict=True))
    spoken = [
        said(name, f"{name}{turn}", turn, messages=[{"role": "user", "content": "x" * size}])
        for name, size in sizes.items()
        for turn in range(2)
    ]
    dataset = add_dataset(dict.fromkeys(sizes, HOURS[0]), spoken)
    held: list[tuple[int, int]] = []
    read = streaming._read

    def weighed(session: Any, some: Any) -> Any:
        found = read(session, some)
        held.append((len(found.calls), sum(len(call.body) for calls in found.calls.values() for call in calls)))
        return found

    monkeypatch.setattr(streaming, "_read", weighed)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 100_000)
    with streaming.snapshot() as session:
        found = [
            (one.trajectory_id, [call.call_id for call in calls])
            for one, calls in streaming.of_dataset(session, dataset)
        ]
    assert found == [(name, [f"{name}0", f"{name}1"]) for name in sorted(sizes)]
    assert all(size <= 200_000 or number == 1 for number, size in held), held
    assert len(held) < 60


def test_a_snapshot_only_reads(fresh: str) -> None:
    with pytest.raises(Exception, match="read-only"), streaming.snapshot() as session:
        session.execute(text("delete from rlfleet.calls"))
