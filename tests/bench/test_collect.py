"""The parts of the benchmark of collecting, on a few rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from bench.collect import __main__ as command
from bench.collect import decode, ingest, memory, pure, rows
from db import partitions, streaming
from db.session import transaction
from gpu.bins import pack
from rl.heuristics import Scored, heuristic_scores
from tests.conftest_database import empty

GOOD = {
    "decoded_vs_copy": 0.65,
    "decoded_vs_orm": 4.0,
    "rss_growth_mb": 64.0,
    "ingest_lost": 0,
    "ingest_doubled": 0,
}


@pytest.fixture(scope="module")
def filled(database: str) -> rows.Filled:
    with transaction() as session:
        empty(session)
    return rows.fill(400, 10, seed=3)


def test_every_bound_must_be_kept() -> None:
    assert all(command.bounds(GOOD).values())
    worse = {"decoded_vs_copy": 0.64, "decoded_vs_orm": 3.99, "rss_growth_mb": 64.1, "ingest_lost": 1}
    for name, value in (worse | {"ingest_doubled": 1}).items():
        assert [one for one, held in command.bounds(GOOD | {name: value}).items() if not held] == [name]
    assert not command.bounds(GOOD | {"ingest_lost": -1})["ingest_lost"], "more than was sent is wrong as well"


def test_a_dataset_has_as_many_calls_as_were_asked_for(filled: rows.Filled) -> None:
    with streaming.snapshot() as session:
        found = [calls for _, calls in streaming.of_dataset(session, filled.dataset_id)]
    assert [len(one) for one in found] == [rows.CALLS_EACH] * filled.trajectories == [8] * 50
    assert sum(one[0].has_tokens for one in found) == 25
    assert {len(one[0].body) > 3_000 for one in found} == {True}


def test_all_readers_give_the_same_records(filled: rows.Filled) -> None:
    decode.check(filled)
    report = decode.measure(filled, rounds=1)
    assert (report["rows"], report["rounds"]) == (400, 1)
    assert report["mb"] > 2
    assert set(report["mb_per_second"]) == {"copy", "ours", "orm", "columns", "lines"}


def test_readers_that_differ_are_found(filled: rows.Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = decode._from_object
    monkeypatch.setattr(decode, "_from_object", lambda call: honest(call)._replace(place=call.turn))
    with pytest.raises(RuntimeError, match="readers differ in trajectory 1"):
        decode.check(filled)


def test_the_memory_of_a_process_is_its_own(filled: rows.Filled, tmp_path: Path) -> None:
    peak, sha256 = memory.main(filled.dataset_id, tmp_path).split()
    assert len(sha256) == 64
    assert (tmp_path / "dataset.jsonl").read_bytes().count(b"\n") == 50
    before = int(peak)
    held = bytearray(b"x") * (before + (32 << 20))
    assert memory.peak_bytes() > before
    assert len(held) > before


def test_what_was_lost_and_what_is_there_twice_is_counted(filled: rows.Filled) -> None:
    weeks = [datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 1, 23, tzinfo=UTC)]
    partitions.ensure(weeks)
    add = """
        insert into rlfleet.turns (trajectory_id, turn, at, reward, details)
        values (:id, :turn, :at, :reward, json_build_object('state', json_build_object('step', cast(:step as int))))
    """
    as_sent = {"id": "calm0-000001", "turn": 3, "at": weeks[0], "reward": 0.5, "step": 3}
    twice, changed = as_sent | {"at": weeks[1]}, as_sent | {"turn": 4, "step": 3}
    with transaction() as session:
        session.execute(text(add), [as_sent, twice, changed])
        found = session.execute(text(ingest.COUNTS), {"name": "calm%"}).one()
    assert tuple(found) == (2, 1), "one turn, twice; the one that holds another's state is none"
    ground: Any = SimpleNamespace(one=lambda _, name: found)
    assert ingest._stored(ground, "calm", turns=10) == ingest.Stored(lost=2 * 21 - 1, doubled=1)


def test_made_up_trajectories_are_scored_and_packed() -> None:
    chance = random.Random(1)
    played = [pure.trajectory(chance, number) for number in range(5)]
    assert all(isinstance(one, Scored) for one in heuristic_scores(played, "archetype"))
    groups = [pure.group(chance, number) for number in range(3)]
    tokens = sum(len(one.ids) for group in groups for one in group)
    assert sum(len(one) for one in pack(groups, pure.BUDGET)) == tokens - 3 * 7 * pure.PROMPT, "prompts are shared"
    report = pure.measure(trajectories=5, groups=2, rounds=1, seed=0)
    assert report["heuristic_per_second"] > 0
    assert report["bins_tokens_per_second"] > 0
