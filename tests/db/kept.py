"""Lines with a retention, windows of long ago with all that belongs to their trajectories, and what is left of it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, datasets, dispatch, feedback, lines, outcomes, prune, trajectories, versions, windows
from db.calls import NewCall
from db.feedback import NewFeedback
from db.session import transaction
from db.tables import Line, Version
from rl.config import LineConfig
from rl.records import Call, Message, Quarantined, Trajectory
from rl.retention import Retention
from rl.scoring import ScoreRow
from rl.windows import hour_of, parse

HOUR, NEXT, OTHER_WEEK = "2025-01-15T10:00", "2025-01-15T11:00", "2025-01-22T10:00"
AT = datetime(2025, 1, 15, 10, tzinfo=UTC)
DAYS = 30


def run(statement: str, **values: object) -> list[Any]:
    """The rows of a statement, those of one column as plain values."""
    with transaction() as session:
        result = session.execute(text(statement), values)
        return [row[0] if len(row) == 1 else tuple(row) for row in result] if result.returns_rows else []


def add_line(session: Session, name: str = "main", days: int | None = DAYS) -> Line:
    lines.put(session, name, LineConfig(base_model="random-qwen3", retention=Retention(days=days)))
    return lines.named(session, name)


def episode(name: str, agent: str = "alice", says: str = "forward") -> Trajectory:
    spoken = Call(
        call_id=f"c-{name}",
        turn=0,
        model="gpt-4o",
        messages=[Message(role="user", content=f"{says}, asked")],
        response=Message(role="assistant", content=says),
    )
    return Trajectory(
        trajectory_id=name,
        scenario_id="s",
        agent_id=agent,
        started_at=AT,
        ended_at=AT,
        reward=0.5,
        calls=[spoken],
        metadata={"note": says, outcomes.METADATA: {"later": says}},
    )


def add_window(
    session: Session, line: Line, name: str, *found: Trajectory, state: str = "scored", run_id: int | None = None
) -> int:
    """A window with those trajectories, each with a call, an outcome, feedback, and a judge's score."""
    window = windows.ensure(session, line.id, parse(name), state=state, run_id=run_id)
    trajectories.insert_trajectories(session, line.id, window, "jsonl:///logs", found)
    for one in found:
        said, about = one.calls[0].response.content, one.trajectory_id
        spoken = [NewCall.of(call, trajectory_id=about, line=line.name, agent_id=one.agent_id) for call in one.calls]
        calls.insert(session, spoken)
        feedback.insert(session, [NewFeedback(f"f-{about}", about, None, "rating", 1.0, comment=said)], AT)
        known: dict[str, Any] = {"judge": "gpt-4o", "rubric_hash": "r", "cost": 0.25, "explanation": said}
        row = ScoreRow(about, "judge", "1", f"h-{about}", 0.5, compared_in=f"group {name}", **known)
        trajectories.insert_scores(session, [row.row()])
    statement = text("""
        insert into rlfleet.judgements (request_sha256, judge, answer, prompt_tokens, completion_tokens, cost)
        values (:group, 'gpt-4o', jsonb_build_object('said', cast(:said as text)), 1, 1, 0.25) on conflict do nothing
    """)
    if found:
        session.execute(statement, {"group": f"group {name}", "said": found[0].calls[0].response.content})
    return window


def old(*names: str, line: str = "main", days: int | None = DAYS, window: str = HOUR, **fields: Any) -> int:
    """The id of a window of long ago, with those trajectories, on a line with a retention."""
    with transaction() as session:
        return add_window(session, add_line(session, line, days), window, *map(episode, names), **fields)


def recent(*names: str, days_ago: float) -> int:
    """The id of a window that began so many days ago."""
    hour = hour_of(datetime.now(UTC) - timedelta(days=days_ago))
    with transaction() as session:
        return add_window(session, add_line(session), hour.text, *map(episode, names))


def job(kind: str, state: str = "queued", line: str = "main", **inputs: Any) -> int:
    """A job's id."""
    with transaction() as session:
        spec = dispatch.Spec(kind, lines.named(session, line).id, inputs | {"n": secrets.token_hex(4)}, {}, "gpu")
        made = dispatch.request(session, spec)
    set_state(made, state)
    return made


def set_state(job_id: int, state: str) -> None:
    lease = "now() + interval '1 hour'" if state == "running" else "null"
    run(f"update rlfleet.jobs set state = :state, lease_until = {lease} where id = :id", state=state, id=job_id)  # noqa: S608


def frozen(window: int, state: str = "succeeded", line: str = "main") -> tuple[int, int]:
    """A training job in that state, and the dataset that it froze of the window."""
    made = job("train", state, line)
    with transaction() as session:
        rows = trajectories.of_windows(session, [window])
        line_id = lines.named(session, line).id
        return made, datasets.freeze(session, line_id, made, [window], rows, {}).id


def version(job_id: int, state: str = "candidate", parent: int | None = None) -> Version:
    """What the job made."""
    checkpoint = versions.NewCheckpoint(1, "adapter", "/checkpoint", "/base", "0" * 64, {})
    with transaction() as session:
        made = versions.add(
            session,
            line=lines.named(session, "main"),
            prefix="babylon-agent",
            job_id=job_id,
            fence=1,
            checkpoints=[checkpoint],
            parent_id=parent,
            base_model="random-qwen3",
            manifest={},
        )
        versions.set_state(session, [made.id], state, "set by a test")
        return made


def removed() -> dict[str, int]:
    """One whole pass of retention: what it removed."""
    counts, over = prune.old_trajectories(inf)
    assert over
    return {name: count for name, count in counts.items() if count}


def left() -> set[str]:
    """The trajectories that are there whole: with their key, call, feedback, outcome and explained score."""
    tables = {
        "trajectory_keys": "erased_at is null",
        "trajectories": "true",
        "turns": "true",
        "calls": "true",
        "call_keys": "true",
        "feedback": "comment is not null",
        "outcomes": "true",
        "scores": "explanation is not null",
    }
    found = [
        set(run(f"select distinct trajectory_id from rlfleet.{table} where {condition}"))  # noqa: S608
        for table, condition in tables.items()
    ]
    assert all(one == found[0] for one in found), dict(zip(tables, found, strict=True))
    return found[0]


def weeks() -> set[str]:
    """The weeks of before this year's that have partitions; each has all three."""
    query = """
        select substring(relname from '\\d{4}w\\d\\d$'), count(*) from pg_class
         where relispartition and relkind = 'r' and relname ~ '2025w' group by 1
    """
    found = run(query)
    assert all(count == 3 for _, count in found), found
    return {week for week, _ in found}


def everything() -> str:
    """Every column of every row of every table, as text."""
    names = run("select tablename from pg_tables where schemaname = 'rlfleet' order by 1")
    return "\n".join(str(row) for name in names for row in run(f"select t::text from rlfleet.{name} t order by 1"))  # noqa: S608


def quarantined(session: Session, line: Line, window: int | None, row: str, excerpt: str) -> None:
    bad = [Quarantined(source="f", row=row, field="reward", reason="must be a number", excerpt=excerpt)]
    if window is not None:
        trajectories.insert_quarantine(session, line.id, window, bad)
