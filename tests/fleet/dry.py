"""A line with windows in every state, every table as it is, and a training with a child that has no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from db import lines, planning, versions, windows
from db.session import transaction
from db.tables import Version
from rl import planner
from rl.config import LineConfig
from rl.records import Call, Message, Trajectory
from rl.windows import parse
from tests.conftest_database import released
from worker import child as worker_child
from worker import settings as worker_settings

ROOT = Path(__file__).parents[2]
OPTIMIZER = {"learning_rate": 1e-3}
DPO = {"objective": "dpo", "steps": 1, "lora": {"rank": 4}, "optimizer": OPTIMIZER}
HOURS = [f"2025-01-15T{hour}:00" for hour in ("10", "11", "12", "13")]


def episode(hour: str, scenario: str, reward: float | None, number: int = 0, **about: Any) -> Trajectory:
    """One whose id says where it belongs: ``10/s/0``. A reward of None is one that its source does not know."""
    start, name = parse(hour).hour, f"{hour[11:13]}/{scenario}/{number}"
    assert start is not None
    moment = start + timedelta(minutes=5)
    call = Call(
        call_id=f"{name}/0",
        turn=0,
        model="another-model",
        messages=[Message(role="user", content="red ball ahead")],
        response=Message(role="assistant", content="go forward"),
    )
    return Trajectory(
        trajectory_id=name,
        scenario_id=scenario,
        agent_id="a",
        started_at=moment,
        ended_at=moment,
        reward=reward or 0.0,
        calls=[call],
        metadata={} if reward is not None else {"reward": None},
        **about,
    )


EPISODES = {
    hour: [
        episode(hour, "s", 0.25, 0),
        episode(hour, "s", 0.75, 1),
        episode(hour, "even", 0.5, 0),
        episode(hour, "even", 0.5, 1),
        episode(hour, "even", 0.5, 2),
        episode(hour, "alone", 1.0),
        episode(hour, "unknown", None),
    ]
    for hour in HOURS
}
"""Each hour has a group that differs, one that does not, one that is alone, and one without a score."""
USED = sorted(f"{hour[11:13]}/s/{number}" for hour in HOURS for number in (0, 1))


def source(folder: Path, *more: str) -> str:
    """A file with all of it, and ``more`` lines as they are."""
    path = folder / "agent.jsonl"
    rows = [one.model_dump_json() for several in EPISODES.values() for one in several]
    path.write_text("".join(f"{row}\n" for row in [*rows, *more]))
    return f"jsonl://{path}"


def put(folder: Path, train: dict[str, Any] = DPO, **fields: Any) -> int:
    """The line ``main``, whose source is the file in the folder."""
    given = {"base_model": str(folder), "source": f"jsonl://{folder}/agent.jsonl", "train": train, "automatic": False}
    with transaction() as session:
        return lines.put(session, "main", LineConfig.model_validate(given | fields))


def open_window(line: int, name: str) -> None:
    with transaction() as session:
        windows.ensure(session, line, parse(name), state="closed")


TABLES = text("""
    select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'rlfleet' and c.relkind = 'r' order by 1
""")


def every_row() -> dict[str, tuple[int, str]]:
    """How many rows each table has, partitions one by one, and a hash of where they lie and who wrote them."""
    found = {}
    with transaction() as session:
        for table in session.scalars(TABLES):
            marks = "coalesce(md5(string_agg(ctid::text || xmin::text, ',' order by ctid)), '')"
            count, marks = session.execute(text(f"select count(*), {marks} from {table}")).one()  # noqa: S608
            found[table] = (int(count), str(marks))
    return found


def gpu_worker(state: Path) -> Iterator[None]:
    """This process is one while a fixture has this running."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RLFLEET_ENV": "test",
            "RLFLEET_CHILD": "bench.faults.child",
            "RLFLEET_DEVICE": "cpu",
            "RLFLEET_STATE": str(state),
            "RLFLEET_ARTIFACTS": str(state / "artifacts"),
            "RLFLEET_STEP_SECONDS": "0.01",
            "RLFLEET_JOURNAL": str(state / "journal"),
            "PYTHONPATH": str(ROOT),
        }.items():
            patch.setenv(name, value)
        patch.setattr(worker_child, "_resident", None)
        patch.setattr(worker_child, "TICK_SECONDS", 0.05)
        worker_settings.settings.cache_clear()
        yield
        worker_child.resident().kill()
    worker_settings.settings.cache_clear()


NEXT = text("""
    select id from rlfleet.jobs j where state = 'queued' and not exists (
        select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded') order by id limit 1
""")


def do_all() -> None:
    """Do every job that can be done, as workers would."""
    while True:
        with transaction() as session:
            found = session.scalar(NEXT)
        if found is None:
            return
        do(int(found))


def do(job_id: int) -> str:
    """Do the job; what became of it."""
    from worker.app import app

    with transaction() as session:
        kind = session.execute(text("select kind from rlfleet.jobs where id = :id"), {"id": job_id}).scalar_one()
    return str(app.tasks[f"rlfleet.{kind}"].apply(args=(job_id,)).result)


def asked(name: str, kind: str) -> int:
    """The id of the job that collects or scores the window."""
    with transaction() as session:
        line = lines.named(session, "main")
        state, window = planning.line_state(session, line), planner.WindowState(name, "closed", None, None)
        (want,) = planner.collect(state, window) if kind == "collect" else [planner.score(state, window)]
        return planning.request(session, line.id, want)


def as_json(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed)
    return found


def release(line: int) -> None:
    """Make the line's newest version its stable one."""
    with transaction() as session:
        newest = session.scalars(
            select(Version.id).where(Version.line_id == line).order_by(Version.number.desc())
        ).first()
        assert newest is not None
        versions.set_state(session, [newest], "ready", "by a test")
        released(session, line, newest, 100, "by a test")
