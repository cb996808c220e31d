"""The recorder on a real database: what it takes is stored, once, whatever is away or killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import alerts, calls
from db.calls import NewCall
from db.failures import NewFailure
from db.session import transaction
from gateway.capture import Recorder
from gateway.refused import REFUSED
from gateway.settings import GatewaySettings
from rl.errors import DatabaseUnavailable
from rl.records import Quarantined
from tests.conftest_database import add_line, empty
from tests.gateway.away import out_of_reach

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _rows(database: str) -> None:
    with transaction() as session:
        empty(session)
        add_line(session)


def call(call_id: str = "c1", trajectory_id: str = "t1", **fields: Any) -> NewCall:
    known: dict[str, Any] = {
        "turn": 2,
        "line": "main",
        "model": "babylon-agent-v1.0.1",
        "agent_id": "a1",
        "messages": [{"role": "user", "content": "You see: \0 \ud800 ü"}],
        "response": {"role": "assistant", "content": f"go {call_id}", "tool_calls": [{"id": "f", "function": {}}]},
        "prompt_token_ids": [5, 6, 7],
        "token_ids": [1, 2**31 - 1],
        "logprobs": [-0.25, -1.5],
        "temperature": 0.7,
        "finish_reason": "stop",
        "tools": [{"type": "function"}],
    }
    return NewCall(call_id=call_id, trajectory_id=trajectory_id, **(known | fields))


@asynccontextmanager
async def recording(folder: Path, **variables: str) -> AsyncIterator[Recorder]:
    recorder = Recorder(GatewaySettings(**{"RLFLEET_SPOOL_DIR": str(folder)} | variables))
    try:
        yield recorder
    finally:
        await recorder.close()


async def emptied(recorder: Recorder) -> None:
    assert recorder.spool is not None
    async with asyncio.timeout(60):
        while recorder.spool.waiting:
            await asyncio.sleep(0.01)


def stored(trajectory_id: str = "t1") -> list[str]:
    with transaction() as session:
        return [one.call_id for one in calls.of_trajectories(session, [trajectory_id])[trajectory_id]]


def rows(statement: str) -> list[tuple[Any, ...]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def test_a_call_is_stored_as_it_was_remembered(tmp_path: Path) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            assert (await recorder.record(call(made_at=AT))).is_new
            remembered = recorder.remembered("c1")
            await emptied(recorder)
            assert recorder.remembered("c1") == remembered
            with transaction() as session:
                assert calls.with_id(session, "c1") == ("t1", remembered and remembered.call)
            assert remembered is not None
            assert remembered.call.token_ids == [1, 2**31 - 1]
            assert remembered.call.messages[0].content == "You see: \ufffd ? ü"

    asyncio.run(run())
    assert rows("select created_at, at, place from rlfleet.calls") == [(AT, AT, 0)]


def test_a_repeat_is_not_recorded_and_told_what_was_said_first(tmp_path: Path) -> None:
    async def run(committed: bool, wait: bool) -> None:
        async with recording(tmp_path) as recorder:
            await recorder.record(call("c1"))
            if wait:
                await emptied(recorder)
            again = await recorder.record(call("c1", response={"role": "assistant"}), committed=committed)
            assert (again.is_new, again.before and again.before.call.response.content) == (False, "go c1")

    for committed in (False, True):
        for wait in (False, True):
            asyncio.run(run(committed, wait))
    assert stored() == ["c1"]


def test_another_process_is_told_by_the_database_or_the_spool_what_was_said_first(
    tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            await recorder.record(call("c1"))
        async with recording(tmp_path) as recorder:
            assert recorder.remembered("c1") is None
            found = await asyncio.gather(*(recorder.answered(one) for one in ["c1", "c2", "c1"]))
            assert [one and (one.trajectory_id, one.call.call_id) for one in found] == [
                ("t1", "c1"),
                None,
                ("t1", "c1"),
            ]
            assert (await recorder.record(call("c1", turn=9), committed=True)).before == found[0]
            with out_of_reach(postgres_url, database_url):
                await recorder.record(call("c3"))
                assert await recorder.answered("c1") is None, "nobody can know it"
                _kill(recorder)
        with out_of_reach(postgres_url, database_url):
            async with recording(tmp_path) as recorder:
                assert (await recorder.answered("c3")) == recorder.remembered("c3") is not None

    asyncio.run(run())
    asyncio.run(_drained(tmp_path))
    assert stored() == ["c1", "c3"]


def _kill(recorder: Recorder) -> None:
    """Its folder becomes free, and it stores nothing any more: what a killed process leaves."""
    assert recorder.spool is not None
    spool = recorder.spool
    os.close(spool._lock)
    spool._lock = os.open(os.devnull, os.O_RDONLY)
    spool.read = lambda most, most_bytes: None  # type: ignore[method-assign]


async def _drained(folder: Path) -> None:
    async with recording(folder) as recorder:
        await emptied(recorder)


def test_the_database_may_be_away_and_nothing_is_lost(tmp_path: Path, postgres_url: str, database_url: str) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            assert recorder.spool is not None
            with out_of_reach(postgres_url, database_url):
                for number in range(300):
                    await recorder.record(call(f"c{number}"))
                with pytest.raises(DatabaseUnavailable):
                    await recorder.record(call("committed"), committed=True)
                async with asyncio.timeout(30):
                    while not recorder.away:
                        await asyncio.sleep(0.01)
                assert recorder.away == "the database does not answer", "without libpq's words: anybody may ask"
                state = recorder.state()
                assert (state["waiting"], state["bytes"]) == (300, recorder.spool.size)
                recorder.spool.sync()
            await emptied(recorder)
            async with asyncio.timeout(30):
                while recorder.away:
                    await asyncio.sleep(0.01)
            assert recorder.state() | {"mode": ""} == {
                "mode": "",
                "waiting": 0,
                "bytes": 0,
                "oldest_seconds": 0.0,
                "refused": 0,
            }

    asyncio.run(run())
    assert sorted(stored()) == sorted(f"c{number}" for number in range(300))


def test_a_record_that_the_database_refuses_holds_up_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            for number in range(20):
                await recorder.record(call(f"c{number}", turn=2**31 if number == 13 else 0))
            await emptied(recorder)
            assert recorder.state()["refused"] == 1

    asyncio.run(run())
    assert sorted(stored()) == sorted(f"c{number}" for number in range(20) if number != 13)
    (line,) = (tmp_path / REFUSED).read_text().splitlines()
    kept = json.loads(line)
    assert (kept["kind"], kept["fields"][0]) == ("call", "c13")
    assert kept["reason"] == "the database cannot hold it (DataError 22003)"
    (alert,) = alerts.waiting()
    assert (alert.name, alert.subject, alert.detail["records"]) == ("capture_refused", str(tmp_path), 1)


def test_a_database_that_refuses_everything_gets_it_later(tmp_path: Path) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            with transaction() as session:
                session.execute(text("alter table rlfleet.call_keys rename to other_keys"))
            try:
                for number in range(5):
                    await recorder.record(call(f"c{number}"))
                async with asyncio.timeout(30):
                    while not recorder.away:
                        await asyncio.sleep(0.01)
                assert recorder.state()["waiting"] == 5
            finally:
                with transaction() as session:
                    session.execute(text("alter table rlfleet.other_keys rename to call_keys"))
            await emptied(recorder)
            assert recorder.state()["refused"] == 0

    asyncio.run(run())
    assert len(stored()) == 5


def test_refusals_failures_and_what_a_hook_refused_are_stored_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with recording(tmp_path) as recorder:
            await recorder.record(call("c1"))
            await recorder.record(call("c2", "t2"))
            await emptied(recorder)
            await recorder.record(call("c3", "t2"))
            await recorder.refused("t2", "a1")
            recorder.failed(NewFailure("f1", "main", "v1", "answered 500: \0", AT, asked=False))
            recorder.failed(NewFailure("f1", "main", "v1", "again", AT))
            row = Quarantined(source="capture", row="c9", field="redaction.hook", reason="the hook refused it")
            await recorder.quarantined("main", row)
            await emptied(recorder)

    asyncio.run(run())
    assert (stored("t1"), stored("t2")) == (["c1"], [])
    assert rows("select * from rlfleet.call_failures") == [
        ("f1", "main", "v1", "answered 500: \ufffd", AT, False, None)
    ]
    assert rows('select source, "row", reason from rlfleet.quarantine') == [("capture", "c9", "the hook refused it")]


def test_of_two_with_the_same_id_the_second_waits_for_the_first(tmp_path: Path) -> None:
    async def run() -> list[str]:
        said: list[str] = []
        async with recording(tmp_path) as recorder:

            async def one(name: str, call_id: str) -> None:
                async with recorder.only(call_id):
                    said.append(f"{name} begins")
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    said.append(f"{name} ends")

            await asyncio.gather(one("first", "c1"), one("second", "c1"), one("third", "c1"), one("other", "c2"))
        return said

    said = asyncio.run(run())
    assert [one for one in said if "other" not in one] == [
        f"{name} {verb}" for name in ("first", "second", "third") for verb in ("begins", "ends")
    ]
    assert said.index("other begins") == 1


@pytest.mark.parametrize(("mode", "kept"), [("off", []), ("required", ["c1"])])
def test_without_the_spool_a_call_is_committed_or_nothing(tmp_path: Path, mode: str, kept: list[str]) -> None:
    async def run() -> None:
        async with recording(tmp_path / "spool", RLFLEET_CAPTURE=mode) as recorder:
            assert (await recorder.record(call("c1"))).is_new
            assert stored() == kept

    asyncio.run(run())
