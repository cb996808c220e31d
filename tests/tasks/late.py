"""An hour of long ago on an automatic line with a real source, and short ways to have its jobs done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text

import tasks
from db.session import transaction
from rl.late import Late, Policy
from rl.records import Trajectory, Turn
from tasks.again import scores_again
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.rows import add_line, add_window, one, rows

AGES = 10**6
"""Hours: far enough back for a window of 2025."""


class Log:
    """A file of JSON lines that grows, as an agent's log does."""

    def __init__(self, path: Path, *numbers: int) -> None:
        self.path = path
        self.write(*map(trajectory, numbers))

    @property
    def url(self) -> str:
        return f"jsonl://{self.path}"

    def write(self, *found: Trajectory) -> None:
        self.path.write_text("".join(row.model_dump_json() + "\n" for row in found))

    def append(self, *found: Trajectory) -> None:
        with self.path.open("a") as file:
            file.writelines(row.model_dump_json() + "\n" for row in found)


def known(number: int, outcome: Mapping[str, Any], of_turn: Mapping[str, Any] | None = None) -> Trajectory:
    """Trajectory ``number`` with what became known of it, and of its one turn."""
    turns = [Turn(turn=0, outcome=dict(of_turn))] if of_turn is not None else []
    return trajectory(number).model_copy(update={"metadata": {"outcome": dict(outcome)}, "turns": turns})


def line_of(
    log: Log, name: str = "main", policy: Policy = "reopen", after: tuple[float, ...] = (), **fields: Any
) -> int:
    """An automatic line that looks far back for late rows, with ``HOUR`` closed."""
    late = Late(policy=policy, hours=AGES, outcomes_after=after)
    line = add_line(name, source=log.url, late=late, **fields)
    add_window(line, HOUR, "closed")
    return line


def work(*kinds: str) -> None:
    """Have all jobs of these kinds done that are queued, in that order."""
    for kind in kinds:
        for row in rows("select id from rlfleet.jobs where kind = :kind and state = 'queued' order by id", kind=kind):
            getattr(tasks, kind).run(row[0])


def a_day_passes() -> None:
    """Since every job that has ended."""
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set finished_at = finished_at - interval '25 hours'"))


def look() -> int:
    """How many jobs a look of the next day asks for; they are done."""
    a_day_passes()
    asked = len(scores_again())
    work("score")
    return asked


def first_read() -> None:
    """Collect and score what is closed."""
    ask()
    work("collect", "score")


def ask() -> None:
    """Ask for the jobs that are missing on every line, without opening hours of today."""
    from tasks.ring import advance

    for row in rows("select name from rlfleet.lines order by name"):
        advance(row[0])


def trained(line: int, window: str = HOUR) -> None:
    """As a training job leaves it."""
    job = named_by_training(line, window)
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set state = 'succeeded', finished_at = now() where id = :id"), {"id": job}
        )
        moved = (
            "update rlfleet.windows set state = 'trained', reason = 'made v1' where line_id = :line and name = :name"
        )
        session.execute(text(moved), {"line": line, "name": window})


def named_by_training(line: int, window: str = HOUR) -> int:
    """The id of a queued training job on the window."""
    from tests.tasks.rows import asked

    return asked(line, kind="train", queue="gpu", inputs={"windows": [window]})


def window(line: int | None = None, name: str = HOUR) -> tuple[str, int, str | None]:
    """The window's state, how often it was added to, and the reason."""
    found = "select state, again, reason from rlfleet.windows where name = :name and (line_id = :line or :line is null)"
    return tuple(one(found.replace(":line is null", "cast(:line as bigint) is null"), line=line, name=name))


def jobs(kind: str) -> list[tuple[dict[str, Any], str]]:
    """Inputs and state of the jobs of a kind, oldest first."""
    return [
        tuple(row) for row in rows("select inputs, state from rlfleet.jobs where kind = :kind order by id", kind=kind)
    ]


def stored() -> list[str]:
    """The ids of all trajectories."""
    return [row[0] for row in rows("select trajectory_id from rlfleet.trajectories order by 1")]


def scores() -> list[tuple[str, float]]:
    """All score rows, oldest first."""
    return [tuple(row) for row in rows("select trajectory_id, score from rlfleet.scores order by id")]
