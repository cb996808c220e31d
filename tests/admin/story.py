"""A fleet in the middle of its work: four weeks of versions, two days of windows, a training under way, a dead job."""

from __future__ import annotations

import json
import math
import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import datasets, decisions, dispatch, lines, partitions, releases, trajectories, versions, windows, workers
from db.alerts import raise_alert
from db.session import transaction
from db.tables import Line, Version
from rl.config import LineConfig, Optimizer, TaskSet
from rl.objectives import Grpo
from rl.records import Quarantined, Trajectory
from rl.release_plan import Plan
from rl.scoring import by_reward
from rl.windows import WindowId, hour_of
from tests.conftest_database import released
from tests.db import chains

VALIDATION = TaskSet(environment="gridworld", split="held_out", count=200)
GRPO = Grpo(optimizer=Optimizer(learning_rate=1e-5))
RATES = (0.31, 0.36, 0.44, 0.43, 0.52, 0.58)
HOURS = 46
LOG = """2026 INFO gpu.child device {device} is ours, serving on 127.0.0.1:41873
INFO gpu.trainer 412 trajectories, 388 used, 24 left out: no group
INFO gpu.fit token budget 16384, micro-batches of 4 bins
INFO gpu.trainer step 1 of 60 loss 0.6931 mean_score 0.41 tokens/s 8211
INFO gpu.trainer step 20 of 60 loss 0.5520 mean_score 0.47 tokens/s 8304
INFO gpu.states state of step 20 saved in 1.2 s
INFO gpu.trainer step 37 of 60 loss 0.4713 mean_score 0.52 tokens/s 8290
"""


@dataclass(frozen=True)
class Story:
    """Ids and names that tests and pictures go to. ``window`` is trained, ``waiting`` is scored, some rows
    of ``quarantined`` could not be used."""

    running: int
    dead: int
    queued: int
    window: str
    waiting: str
    quarantined: str
    version: str


def tell(state: Path) -> Story:
    """Fill the empty database; ``state`` gets the log of the device that trains."""
    luck = random.Random(7)
    now = datetime.now(UTC)
    partitions.ensure([now - timedelta(hours=HOURS), now])
    host = socket.gethostname()
    _workers(host)
    with transaction() as session:
        line = _line(session)
        hours = _hours(session, line, luck, now)
        made = _versions(session, line, hours[:12], luck)
        _shop(session, now)
    dead = _dead(line, hours[0])
    running = _running(line, hours[12:18], host)
    queued = _queued(line, hours[18], running)
    with transaction() as session:
        raise_alert(session, "canary_without_rewards", made[-1].name, {"remedy": "log rewards of its agents"})
    (state / "logs").mkdir(parents=True, exist_ok=True)
    (state / "logs" / "child-gpu0.log").write_text(LOG.format(device="gpu0"))
    return Story(running, dead, queued, hours[3].text, hours[20].text, hours[1].text, made[-1].name)


def _workers(host: str) -> None:
    workers.announce(f"gpu0@{host}", ["gpu"], 1, "gpu0", 4711)
    workers.announce(f"cpu@{host}", ["collect", "score", "maint"], 4, "", 4712)
    workers.announce(f"score-2@{host}", ["score"], 2, "", 4713)
    with transaction() as session:
        gone = "update rlfleet.workers set seen_at = now() - interval '11 minutes' where name like 'score-2%'"
        session.execute(text(gone))


def _line(session: Session) -> Line:
    lines.put(session, "main", LineConfig(base_model="qwen3-4b", validation=VALIDATION, train=GRPO, source="jsonl://x"))
    return lines.named(session, "main")


def _shop(session: Session, now: datetime) -> None:
    """A second line, which has nothing but its first windows."""
    lines.put(session, "shop", LineConfig(base_model="qwen3-4b"))
    row = lines.named(session, "shop")
    for back in (3, 2):
        windows.ensure(session, row.id, _hour(now, back), state="closed")


def _hour(now: datetime, back: int) -> WindowId:
    return hour_of(now - timedelta(hours=back))


def _hours(session: Session, line: Line, luck: random.Random, now: datetime) -> list[WindowId]:
    """Windows of the last hours, the oldest first, in every state."""
    found = []
    for back in range(HOURS, -1, -1):
        hour = _hour(now, back)
        found.append(hour)
        state = "trained" if back > 34 else "scored" if back > 4 else {0: "open", 1: "closed"}.get(back, "collected")
        window = windows.ensure(session, line.id, hour, state=state)
        if back == 27:
            windows.move(session, window, "skipped", "nothing to learn from: 3 rows, all quarantined")
            trajectories.insert_quarantine(session, line.id, window, _bad(hour, 3))
        if back > 1 and back != 27:
            played = _episodes(hour, back, luck)
            trajectories.insert_trajectories(session, line.id, window, "jsonl:///var/log/agents", played)
            if back > 4:
                rows = [by_reward(one.trajectory_id, one.reward) for one in played]
                trajectories.insert_scores(session, rows)
        if back % 5 == 0 and back > 1:
            trajectories.insert_quarantine(session, line.id, window, _bad(hour, luck.randint(1, 3)))
    return found


def _episodes(hour: WindowId, back: int, luck: random.Random) -> list[Trajectory]:
    assert hour.hour is not None
    busy = 14 + 10 * math.sin((HOURS - back) / 24 * 2 * math.pi)
    mean = 0.38 + 0.2 * (HOURS - back) / HOURS
    return [
        Trajectory(
            trajectory_id=f"{hour.text}/{place}",
            scenario_id=f"gridworld/{place // 4}",
            agent_id=f"agent-{luck.randint(1, 40)}",
            started_at=hour.hour + timedelta(minutes=2),
            ended_at=hour.hour + timedelta(minutes=3),
            reward=round(min(max(luck.gauss(mean, 0.25), 0), 1), 3),
            calls=[],
        )
        for place in range(max(4, round(busy + luck.gauss(0, 3))))
    ]


def _bad(hour: WindowId, count: int) -> list[Quarantined]:
    return [
        Quarantined(
            source="jsonl:///var/log/agents", row=f"{hour.text}/{n}", field="reward", reason="must be a finite number"
        )
        for n in range(count)
    ]


def _versions(session: Session, line: Line, hours: Sequence[WindowId], luck: random.Random) -> list[Version]:
    """Six versions, each from two hours, evaluated; the last but one is stable, and the last a canary."""
    made: list[Version] = []
    for number, rate in enumerate(RATES):
        names = [one.text for one in hours[2 * number : 2 * number + 2]]
        parent = made[-1] if made else None
        state = "rejected" if number == 3 else "ready"
        version = chains.add_version(session, line, (60,), *names, parent=parent, state=state, scores=(rate + 0.1,))
        kinds = {"reach": 120, "fetch": 80}
        types = {name: (round(n * min(1, rate + luck.uniform(-0.03, 0.03))), n) for name, n in kinds.items()}
        chains.judge(session, version, 60, types, VALIDATION)
        if state == "ready" and number < len(RATES) - 1:
            released(session, line.id, version.id, reason=f"better than before: {rate:.0%}")
        versions.set_state(session, [version.id], state, f"{rate:.0%} right, the one before had less")
        made.append(version)
    because = "better by 6 points, P better 0.93"
    decision = decisions.by_person(session, line.id, made[-1].id, because, "otto")
    releases.start_canary(session, line.id, made[-1].id, decision, Plan(), because)
    versions.set_state(session, [made[3].id], "rejected", "not better than v1.0.2: P better 0.41")
    _freeze(session, line, made, hours)
    _age(session)
    return made


def _freeze(session: Session, line: Line, made: Sequence[Version], hours: Sequence[WindowId]) -> None:
    """What each version learned from, as its job froze it."""
    for number, version in enumerate(made):
        ids = [windows.named(session, line.id, one.text).id for one in hours[2 * number : 2 * number + 2]]
        datasets.freeze(session, line.id, version.job_id, ids, trajectories.of_windows(session, ids), {})
        said = "update rlfleet.jobs set attempt = 1, result = jsonb_build_object('version', cast(:name as text))"
        session.execute(text(f"{said} where id = :id"), {"name": version.name, "id": version.job_id})


def _age(session: Session) -> None:
    """Jobs that ended are days old."""
    session.execute(
        text("""
            update rlfleet.jobs set created_at = now() - make_interval(hours => (60 - 4 * id)::int),
                   started_at = now() - make_interval(hours => (60 - 4 * id)::int, secs => -9),
                   finished_at = now() - make_interval(hours => (60 - 4 * id)::int, mins => -(9 + id * 7 % 13)::int)
             where state = 'succeeded'
        """)
    )


def _ask(line: Line, kind: str, queue: str, inputs: dict[str, Any], **fields: Any) -> int:
    config = GRPO.model_dump(mode="json") if kind == "train" else {}
    with transaction() as session:
        return dispatch.request(session, dispatch.Spec(kind, line.id, inputs, config, queue, **fields))


def _dead(line: Line, hour: WindowId) -> int:
    job = _ask(line, "score", "score", {"window": hour.text, "n": secrets.token_hex(2)})
    with transaction() as session:
        for attempt in (1, 2, 3):
            running = """
                update rlfleet.jobs set state = 'running', attempt = :attempt, fence = :attempt, owner = 'cpu-3:991',
                       error = null,
                       lease_until = now() + interval '1 minute', started_at = now() - interval '2 minutes'
                 where id = :id
            """
            session.execute(text(running), {"id": job, "attempt": attempt})
            ended = """
                update rlfleet.jobs set state = :state, lease_until = null, error = :error,
                       finished_at = case when :state = 'dead' then now() end
                 where id = :id
            """
            error = "JudgeUnavailable: http://judge:9000 answered 503 to 4 of 4 tries; is it up?"
            session.execute(text(ended), {"id": job, "state": "dead" if attempt == 3 else "queued", "error": error})
    return job


def _running(line: Line, hours: Sequence[WindowId], host: str) -> int:
    job = _ask(line, "train", "gpu", {"windows": [one.text for one in hours]})
    luck = random.Random(3)
    steps = list(range(1, 38))
    curves = {
        "step": steps,
        "loss": [round(0.32 + 0.37 * math.exp(-n / 18) + luck.gauss(0, 0.012), 4) for n in steps],
        "mean_score": [round(0.41 + 0.13 * (1 - math.exp(-n / 20)) + luck.gauss(0, 0.015), 4) for n in steps],
        "reference_kl": [round(0.0006 * n + abs(luck.gauss(0, 0.001)), 5) for n in steps],
        "learning_rate": [round(1e-5 * min(1, n / 5) * (1 - n / 80), 8) for n in steps],
    }
    metrics = {name: values[-1] for name, values in curves.items() if name != "step"}
    metrics |= {"tokens_per_second": 8290.0, "eta_seconds": 412.0}
    about = {"stage": "train", "windows": [one.text for one in hours]}
    progress = about | {"step": 37, "total": 60, "metrics": metrics, "curves": curves}
    with transaction() as session:
        session.execute(
            text("""
                update rlfleet.jobs set state = 'running', attempt = 1, fence = 1, owner = :owner,
                       lease_until = now() + interval '1 hour', heartbeat_at = now(), last_sent_at = now(),
                       started_at = now() - interval '11 minutes', created_at = now() - interval '12 minutes',
                       progress = cast(:progress as jsonb)
                 where id = :id
            """),
            {"id": job, "owner": f"{host}:4711", "progress": json.dumps(progress)},
        )
    with transaction() as session:
        dispatch.note(session, "5a6fbd0e-13c1-4c1c-9d3a-3f5f8d1f8a11", job)
    return job


def _queued(line: Line, hour: WindowId, running: int) -> int:
    return _ask(line, "train", "gpu", {"windows": [hour.text]}, after=(running,))
