"""For every registered task: what must be there before it, and what it is sent with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from db import dispatch, lines, planning, windows
from db.alerts import raise_alert
from db.session import transaction
from rl.config import LineConfig, Optimizer, SftTrain
from rl.late import Late
from rl.planner import Want, plan
from rl.release_plan import Plan
from rl.windows import parse
from tests.db import traffic, trained
from tests.tasks import rows
from tests.tasks.conftest import HOUR, trajectory


@dataclass(frozen=True)
class World:
    """Where a recipe puts what is not a row."""

    folder: Path
    steps: int = 2

    def line(self) -> int:
        """A line whose source holds two trajectories of ``HOUR``."""
        path = self.folder / "agent.jsonl"
        path.write_text("".join(trajectory(number).model_dump_json() + "\n" for number in range(2)))
        sft = SftTrain(steps=self.steps, optimizer=Optimizer(learning_rate=0.001))
        with transaction() as session:
            config = LineConfig(base_model=str(self.folder), train=sft, source=f"jsonl://{path}", automatic=False)
            return lines.put(session, "main", config)

    def asked(self, kind: str) -> tuple[int]:
        """The id of the one job of that kind that the planner, or a request, has asked for."""
        return (int(rows.one("select id from rlfleet.jobs where kind = :kind", kind=kind)[0]),)

    def run(self, name: str, *args: Any) -> None:
        """Have the task done, as a worker would."""
        from worker.app import app

        answer = app.tasks[f"rlfleet.{name}"].apply(args=args)
        assert answer.successful(), answer.result


Recipe = Callable[[World], tuple[Any, ...]]


def _closed(world: World) -> int:
    line = world.line()
    rows.add_window(line, HOUR, "closed")
    return line


def train_window(world: World) -> tuple[Any, ...]:
    _closed(world)
    return (HOUR,)


def collect(world: World) -> tuple[Any, ...]:
    _closed(world)
    world.run("train_window", HOUR)
    return world.asked("collect")


def score(world: World) -> tuple[Any, ...]:
    world.run("collect", *collect(world))
    return world.asked("score")


def train(world: World) -> tuple[Any, ...]:
    world.run("score", *score(world))
    return world.asked("train")


def _versions(world: World) -> None:
    with transaction() as session:
        line = trained.add_line(session)
        first = trained.add_version(session, line, state="ready")
        trained.release(session, first)
        trained.evaluate(session, first, 10, 100)
        trained.add_version(session, line, HOUR)


def _ask(kind: str) -> tuple[int]:
    with transaction() as session:
        line = lines.named(session, "main")
        (want,) = (
            one for one in plan(planning.line_state(session, line)) if isinstance(one, Want) and one.kind == kind
        )
        return (planning.request(session, line.id, want),)


def evaluate(world: World) -> tuple[Any, ...]:
    _versions(world)
    return _ask("evaluate")


def decide(world: World) -> tuple[Any, ...]:
    world.run("evaluate", *evaluate(world))
    return _ask("decide")


def plan_a_stage(world: World) -> tuple[Any, ...]:
    _closed(world)
    return ("collect", 60)


def look_again(world: World) -> tuple[Any, ...]:
    """An hour that was read when its source had less; the hour is long over, so the line is told to look far back."""
    world.run("collect", *collect(world))
    log = world.folder / "agent.jsonl"
    log.write_text(log.read_text() + trajectory(2).model_dump_json() + "\n")
    with transaction() as session:
        line = lines.named(session, "main")
        known = lines.config_of(line)
        windows.ensure(session, line.id, parse("2999-01-01T00:00"))  # so that no hour of today is opened
        lines.put(session, "main", known.model_copy(update={"automatic": True, "late": Late(hours=10**6)}))
    return ()


def reconcile(world: World) -> tuple[Any, ...]:
    """One job whose holder is gone, and a window that nobody has asked to collect."""
    job = rows.asked(_closed(world), inputs={"window": HOUR})
    rows.claimed(job)
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set lease_until = now() - interval '1 second'"))
    return ()


def tend(world: World) -> tuple[Any, ...]:
    return ()


def alert(world: World) -> tuple[Any, ...]:
    with transaction() as session:
        for number in range(3):
            raise_alert(session, "queue_old", f"queue {number}", {})
    return ()


def prune(world: World) -> tuple[Any, ...]:
    """A slot and the folder of a lost attempt, both old; a version whose folder must stay."""
    world.run("train", *train(world))
    with transaction() as session:
        session.execute(text("insert into rlfleet.schedule_slots values ('collect', now() - interval '30 days')"))
        session.execute(text("update rlfleet.jobs set finished_at = now() - interval '30 days' where kind = 'train'"))
        job = session.execute(text("select id from rlfleet.jobs where kind = 'train'")).scalar_one()
        dispatch.note(session, "old", job)
        session.execute(text("update rlfleet.deliveries set at = now() - interval '300 days'"))
    lost = world.folder / "artifacts" / "jobs" / str(job) / "fence-77"
    lost.mkdir(parents=True, exist_ok=True)
    (lost / "weights.json").write_text(json.dumps({}))
    return ()


def watch_releases(world: World) -> tuple[Any, ...]:
    """A canary that failed in every second of a hundred calls of an hour ago, and a stable version that did not.

    The place of ``h`` on the line is 1.2, a canary's, and that of ``b`` 90.5.
    """
    with transaction() as session:
        traffic.start(session, Plan(), 24)
        moment = traffic.hours_ago(session, 2).replace(minute=0, second=0, microsecond=0)
        canary = traffic.canary_of(session)
        for n in range(100):
            traffic.call(session, f"s{n}", str(canary.stable), moment, "b")
            if n % 2:
                traffic.call(session, f"c{n}", canary.version, moment, "h")
            else:
                traffic.fail(session, canary.version, moment)
    return ()


def mirror(world: World) -> tuple[Any, ...]:
    """A training that ended, and a folder that it is copied to."""
    world.run("train", *train(world))
    return ()


RECIPES: dict[str, Recipe] = {
    "rlfleet.alert": alert,
    "rlfleet.collect": collect,
    "rlfleet.decide": decide,
    "rlfleet.evaluate": evaluate,
    "rlfleet.look_again": look_again,
    "rlfleet.mirror": mirror,
    "rlfleet.plan": plan_a_stage,
    "rlfleet.prune": prune,
    "rlfleet.reconcile": reconcile,
    "rlfleet.score": score,
    "rlfleet.tend": tend,
    "rlfleet.train": train,
    "rlfleet.train_window": train_window,
    "rlfleet.watch_releases": watch_releases,
}
