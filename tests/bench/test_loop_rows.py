"""A line's rows, made by hand, as the benchmark of the loop reads them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from bench.loop import report, rows
from bench.loop.rows import LINE_PROBE, PROBE, Loop, Round, Span
from db import calls, decisions, dispatch, lines, trajectories, versions, windows
from db.calls import NewCall
from db.session import transaction
from db.tables import Decision, Release
from rl.records import Trajectory
from tests.conftest_database import add_line, empty
from tests.db.trained import start_run

BEGINNING = datetime(2025, 1, 15, 12, tzinfo=UTC)
RUNNING = text("update rlfleet.jobs set state = 'running', fence = 1, attempt = 1, lease_until = now() where id = :id")
SUCCEEDED = text("update rlfleet.jobs set state = 'succeeded', lease_until = null where id = :id")


def at(seconds: float) -> datetime:
    return BEGINNING + timedelta(seconds=seconds)


@pytest.fixture
def line(database: str) -> int:
    with transaction() as session:
        empty(session)
        return add_line(session, "demo").id


def test_a_line_is_read_from_its_rows(line: int) -> None:
    base = _version(line, "2025-01-15T10:00", asked=-90)
    _release(line, base, created=-20)
    _call("c0", base, -18.5, agent=LINE_PROBE)
    with transaction() as session:
        run = start_run(session, versions.named(session, base)[0], rounds=1)
        session.execute(text("update rlfleet.runs set created_at = :at"), {"at": at(0)})
    _job(line, "collect", {"window": "run/demo/0001"}, {}, 1, 2, 7)
    _play("run/demo/0001", "e1", [(3.0, base), (5.5, base)])
    _play("run/demo/0001", "e2", [(4.0, base)])
    _job(line, "score", {"window": "run/demo/0001"}, {}, 8, 9, 10)
    trained = _version(line, "run/demo/0001", asked=10, began=11, ended=15)
    _call("c1", trained, 16.25, agent=PROBE)
    _call("c2", trained, 17, agent="rollout")
    _job(line, "evaluate", {"version": trained}, {"split": "validation"}, 15, 16, 20)
    _job(line, "evaluate", {"version": base}, {"split": "held_out"}, 20, 21, 25)
    _job(line, "evaluate", {"version": trained}, {"split": "held_out"}, 20, 25.5, 28)
    decide = _job(line, "decide", {"candidate": trained, "run": "demo"}, {}, 28, 29, 29.5)
    _decision(line, run, trained, decide)
    _release(line, trained, created=29.5)
    _call("c3", trained, 30.75, agent=LINE_PROBE)

    found = rows.read("demo")

    assert found.rounds == (
        Round(
            window="run/demo/0001",
            episodes=2,
            tokens=6,
            prompt_tokens=9,
            last_turn=at(5.5),
            collect=Span(at(1), at(2), at(7)),
            score=Span(at(8), at(9), at(10)),
            train=Span(at(10), at(11), at(15)),
            evaluate=Span(at(15), at(16), at(20)),
            version=trained,
            playable_at=at(16.25),
        ),
    )
    assert found == Loop(
        line="demo",
        rounds=found.rounds,
        started_at=at(0),
        held_out=(Span(at(20), at(21), at(25)), Span(at(20), at(25.5), at(28))),
        decide=Span(at(28), at(29), at(29.5)),
        released=trained,
        released_at=at(30.75),
        asked_at=at(-90),
        cloned_at=at(-18.5),
    )
    outcome = report.report([found], [], wanted=1)
    assert outcome["window_to_playable"] == {"n": 1, "p50": 10.75, "p95": 10.75, "max": 10.75}
    assert (
        outcome["window_to_served"]
        == outcome["window_to_released"]
        == {"n": 1, "p50": 25.25, "p95": 25.25, "max": 25.25}
    )
    assert outcome["logs_to_released"]["p50"] == 71.5
    assert (outcome["episodes_per_second"], outcome["tokens_per_second"]) == (0.6, 1.7)


def test_a_job_that_was_tried_again_counts_from_its_first_claim(line: int) -> None:
    base = _version(line, "2025-01-15T10:00", asked=0)
    with transaction() as session:
        start_run(session, versions.named(session, base)[0], rounds=2)
    again = _job(line, "collect", {"window": "run/demo/0001"}, {}, 1, 2, 9)
    with transaction() as session:
        for state, second in (("queued", 4), ("running", 6)):
            session.execute(
                text("""
                    insert into rlfleet.job_events (job_id, from_state, to_state, fence, attempt, at)
                    values (:job, 'running', :state, 2, 1, :at)
                """),
                {"job": again, "state": state, "at": at(second)},
            )
    first, second = rows.read("demo").rounds
    assert first.collect == Span(at(1), at(2), at(9))
    assert (first.score, first.version, first.playable_at, first.last_turn) == (None, None, None, None)
    assert second.collect is None


def _job(
    line: int, kind: str, inputs: dict[str, Any], config: dict[str, Any], asked: float, began: float, ended: float
) -> int:
    """A job that succeeded; its events are at those seconds."""
    with transaction() as session:
        spec = dispatch.Spec(kind, line, inputs=inputs | {"n": secrets.token_hex(4)}, config=config, queue="score")
        job_id = dispatch.request(session, spec)
        session.execute(
            text("update rlfleet.jobs set created_at = :at where id = :id"), {"at": at(asked), "id": job_id}
        )
        session.execute(RUNNING, {"id": job_id})
        session.execute(SUCCEEDED, {"id": job_id})
        for state, second in (("queued", asked), ("running", began), ("succeeded", ended)):
            session.execute(
                text("update rlfleet.job_events set at = :at where job_id = :id and to_state = :state"),
                {"at": at(second), "id": job_id, "state": state},
            )
    return job_id


def _version(line: int, window: str, asked: float, began: float = 0, ended: float = 0) -> str:
    """A version, ready, trained on the window."""
    job_id = _job(line, "train", {"windows": [window]}, {}, asked, began, ended)
    with transaction() as session:
        row = lines.named(session, "demo")
        checkpoint = versions.NewCheckpoint(1, "adapter", "/checkpoint", "/base", "0" * 64, {})
        made = versions.add(
            session,
            line=row,
            prefix="demo",
            job_id=job_id,
            fence=1,
            checkpoints=[checkpoint],
            parent_id=None,
            base_model="/base",
            manifest={},
        )
        versions.set_state(session, [made.id], "ready", "set by a test")
        return made.name


def _play(window: str, trajectory: str, spoken: list[tuple[float, str]]) -> None:
    """A trajectory of the window, with a call of three prompt and two sampled tokens at each of those seconds."""
    for turn, (second, model) in enumerate(spoken):
        _call(f"{trajectory}-{turn}", model, second, agent="rollout", trajectory=trajectory)
    with transaction() as session:
        line = lines.named(session, "demo")
        found = Trajectory(
            trajectory_id=trajectory,
            scenario_id="s",
            agent_id="rollout",
            started_at=at(0),
            ended_at=at(100),
            reward=1.0,
            calls=calls.of_trajectories(session, [trajectory])[trajectory],
        )
        row = windows.named(session, line.id, window)
        trajectories.insert_trajectories(session, line.id, row.id, "run:babyai", [found])


def _call(call: str, model: str, second: float, *, agent: str, trajectory: str = "probe") -> None:
    message = {"role": "user", "content": "hello"}
    made = NewCall(
        call_id=call,
        trajectory_id=trajectory,
        turn=int(call[-1]),
        line="demo",
        model=model,
        agent_id=agent,
        messages=[message],
        response={"role": "assistant", "content": "forward"},
        prompt_token_ids=[1, 2, 3],
        token_ids=[4, 5],
        logprobs=[-0.5, -0.5],
        temperature=1.0,
    )
    with transaction() as session:
        calls.insert(session, [made])
        session.execute(
            text("update rlfleet.calls set created_at = :at where call_id = :id"), {"at": at(second), "id": call}
        )


def _release(line: int, version: str, created: float) -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.releases set ended_at = now()"))
        found = versions.named(session, version)[0]
        session.add(
            Release(
                line_id=line,
                version_id=found.id,
                decision_id=decisions.by_person(session, line, found.id, "a test", "a test"),
                stage="stable",
                share=100,
                reason="a test",
                created_at=at(created),
            )
        )


def _decision(line: int, run: int, version: str, job: int) -> None:
    with transaction() as session:
        found = versions.named(session, version)[0]
        session.add(
            Decision(
                line_id=line,
                run_id=run,
                job_id=job,
                fence=1,
                version_id=found.id,
                policy="beta",
                released=True,
                reason="better",
                evidence={},
            )
        )
