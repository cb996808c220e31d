"""Reading a dataset's calls: raw COPY, ours, and SQLAlchemy's ORM, in turns in one process.

``copy`` is one COPY of the window's calls in the binary format, whose bytes are thrown away. ``ours`` gives the
dataset's calls in the order of training, as ``rl.dataset_line.StoredCall``. ``orm`` gives the same records in the same
order from mapped objects, in one statement, a thousand rows at a time. ``columns`` does without the objects and asks
for bodies as text, so that no JSON is parsed: the least that SQLAlchemy takes. ``lines`` writes ours as a dataset.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Select, Text, cast, collate, select
from sqlalchemy.orm import Session

from bench.collect.rows import Filled
from db import partitions, streaming
from db.copying import copy_out
from db.tables import Call, DatasetTrajectory, Window
from rl.dataset_line import StoredCall, dataset_line

AT_ONCE = 1_000
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
LEAST = {"decoded_vs_copy": 0.65, "decoded_vs_orm": 4.0}
"""The least share of raw COPY's bytes in a second, and the least times of the ORM's records in a CPU second."""
Trajectory = tuple[tuple[str, str, float], list[StoredCall]]


def measure(filled: Filled, rounds: int) -> dict[str, Any]:
    """``rounds`` of all arms after one that is not counted; ratios are medians of rounds.

    Beside the raw COPY by the clock, since it leaves the work to the server; beside the others by the CPU seconds of
    this process, since the server's work is theirs too. ``by_clock`` has those by the clock as well.
    """
    check(filled)
    arms = {"copy": copy, "ours": ours, "orm": orm, "columns": columns, "lines": lines}
    size = copy(filled)
    found = [{name: _timed(arm, filled) for name, arm in arms.items()} for _ in range(rounds)]

    def ratio(name: str, clock: int) -> float:
        return round(statistics.median(one[name][clock] / one["ours"][clock] for one in found), 2)

    middle = {name: statistics.median(one[name][CLOCK] for one in found) for name in arms}
    return {
        "decoded_vs_copy": ratio("copy", CLOCK),
        "decoded_vs_orm": ratio("orm", CPU),
        "decoded_vs_columns": ratio("columns", CPU),
        "by_clock": {name: ratio(name, CLOCK) for name in ("orm", "columns")},
        "mb": round(size / 1e6, 1),
        "mb_per_second": {name: round(size / 1e6 / one, 1) for name, one in middle.items()},
        "rounds": rounds,
        "rows": filled.calls,
    }


CLOCK, CPU = 0, 1


def _timed(arm: Callable[[Filled], int], filled: Filled) -> tuple[float, float]:
    """Seconds of the clock, and of this process's CPU time."""
    began, used = time.perf_counter(), time.process_time()
    arm(filled)
    return time.perf_counter() - began, time.process_time() - used


def check(filled: Filled) -> None:
    """Make sure that all readers give the same records.

    Raises:
        RuntimeError: they do not.
    """
    with streaming.snapshot() as one, streaming.snapshot() as two, streaming.snapshot() as three:
        read = (_ours(one, filled), of_orm(two, filled), of_columns(three, filled))
        for number, several in enumerate(zip(*read, strict=True), 1):
            first, *others = [(member, [_plain(call) for call in calls]) for member, calls in several]
            if any(other != first for other in others):
                raise RuntimeError(f"readers differ in trajectory {number}: {first[0]}")
    if number != filled.trajectories:
        raise RuntimeError(f"{number} of {filled.trajectories} trajectories were read")


def _plain(call: StoredCall) -> tuple[Any, ...]:
    """The call as it can be compared: the ORM's body was parsed and written again."""
    return tuple(from_json(one) if name == "body" else one for name, one in call._asdict().items())


def copy(filled: Filled) -> int:
    """The bytes of the raw COPY."""
    query = streaming.CALLS.replace("trajectory_id = any(%(ids)s) and ", "")
    with streaming.snapshot() as session:
        at = session.get_one(Window, filled.window_id).starts_at
        return sum(map(len, copy_out(session, query, {"since": at, "until": at + timedelta(hours=1)})))


def ours(filled: Filled) -> int:
    """Calls read by ours."""
    with streaming.snapshot() as session:
        return sum(len(calls) for _, calls in streaming.of_dataset(session, filled.dataset_id))


def lines(filled: Filled) -> int:
    """Bytes of the dataset's lines, written from ours."""
    with streaming.snapshot() as session:
        return sum(len(dataset_line(*member, calls)) for member, calls in _ours(session, filled))


def _ours(session: Session, filled: Filled) -> Iterator[Trajectory]:
    for member, calls in streaming.of_dataset(session, filled.dataset_id):
        yield member[:3], calls


def orm(filled: Filled) -> int:
    """The same through mapped objects."""
    with streaming.snapshot() as session:
        return sum(len(calls) for _, calls in of_orm(session, filled))


def columns(filled: Filled) -> int:
    """The same through rows of columns, without an object for each and without JSON that is parsed."""
    with streaming.snapshot() as session:
        return sum(len(calls) for _, calls in of_columns(session, filled))


def of_orm(session: Session, filled: Filled) -> Iterator[Trajectory]:
    """Each trajectory with its calls, as ``streaming.of_dataset`` gives them, from mapped objects."""
    pairs: Any = session.execute(_ordered(session, filled, select(DatasetTrajectory, Call)))
    for _, some in groupby(pairs, key=lambda pair: pair[0].trajectory_id):
        found = list(some)
        first: DatasetTrajectory = found[0][0]
        yield (first.trajectory_id, first.group, first.score), [_from_object(call) for _, call in found]


def _from_object(call: Call) -> StoredCall:
    return StoredCall(
        call.turn,
        call.place,
        _since_2000(call.created_at),
        call.call_id,
        call.trajectory_id,
        call.model,
        to_json(call.body),
        call.prompt_token_ids,
        call.token_ids,
        call.logprobs,
        call.temperature,
        call.finish_reason,
    )


COLUMNS = (
    DatasetTrajectory.trajectory_id,
    DatasetTrajectory.group,
    DatasetTrajectory.score,
    Call.turn,
    Call.place,
    Call.created_at,
    Call.call_id,
    Call.model,
    cast(Call.body, Text),
    Call.prompt_token_ids,
    Call.token_ids,
    Call.logprobs,
    Call.temperature,
    Call.finish_reason,
)


def of_columns(session: Session, filled: Filled) -> Iterator[Trajectory]:
    """As ``of_orm``, from rows of columns."""
    rows: Any = session.execute(_ordered(session, filled, select(*COLUMNS)))
    for (trajectory_id, group, score), some in groupby(rows, key=lambda row: row[:3]):
        calls = [
            StoredCall(turn, place, _since_2000(at), call_id, trajectory_id, model, body.encode(), *rest)
            for _, _, _, turn, place, at, call_id, model, body, *rest in some
        ]
        yield (trajectory_id, group, score), calls


def _ordered(session: Session, filled: Filled, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """The dataset's rows in the order of training, in one statement."""
    week = partitions.bounds(session.get_one(Window, filled.window_id).starts_at)
    return (
        query.join(Call, Call.trajectory_id == DatasetTrajectory.trajectory_id)
        .where(DatasetTrajectory.dataset_id == filled.dataset_id, Call.at >= week["since"], Call.at < week["until"])
        .order_by(
            collate(DatasetTrajectory.group, "C"),
            collate(DatasetTrajectory.trajectory_id, "C"),
            Call.turn,
            Call.place,
            Call.created_at,
            collate(Call.call_id, "C"),
        )
        .execution_options(yield_per=AT_ONCE)
    )


def _since_2000(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
