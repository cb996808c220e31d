"""A person asks for verdicts on a version: those that its line's planner wants, or on scenarios that they name."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db import checkpoints, evaluations, lines, planning, versions
from db.tables import Line
from rl.config import TaskSet
from rl.deciding import outside_run
from rl.errors import InvalidInput
from rl.evaluating import Subject, evaluate, to_evaluate
from rl.line_state import Want


def ask(session: Session, name: str, task_set: TaskSet | None = None, step: int | None = None) -> list[int]:
    """The ids of the jobs that evaluate the version called ``name``, made where they are not there in any state.

    Without ``task_set`` they are what its line evaluates it on; ``step`` is that of another checkpoint than its own.

    Raises:
        InvalidInput: no such version or checkpoint, or its line says nothing to evaluate it on.
    """
    version, _ = versions.named(session, name)
    line = session.get_one(Line, version.line_id)
    if task_set is None:
        wanted = _of_line(session, line, name)
    else:
        parts = to_evaluate(task_set, None, lines.config_of(line).shard)
        wanted = [evaluate(_subject(session, name, step), task_set, part) for part in parts]
    return [planning.request(session, line.id, want) for want in wanted]


def usual_set(session: Session, name: str) -> TaskSet | None:
    """The validation scenarios of the version's line; None where it has none.

    Raises:
        InvalidInput: no such version.
    """
    version, _ = versions.named(session, name)
    return lines.config_of(session.get_one(Line, version.line_id)).validation


def _of_line(session: Session, line: Line, name: str) -> list[Want]:
    state = planning.line_state(session, line)
    version = state.version(name)
    wanted = [] if version is None else [one for one in outside_run(state, version) if one.kind == "evaluate"]
    if not wanted and state.config.validation is None and state.config.held_out is None:
        remedy = f"line {line.name} has neither [validation] nor [held_out]: give --environment and --scenarios"
        raise InvalidInput("version", name, remedy)
    return wanted


def _subject(session: Session, name: str, step: int | None) -> Subject:
    version, own = versions.named(session, name)
    chosen = own if step is None else evaluations.checkpoint_of(session, version, step)
    last = checkpoints.of_version(session, version)[-1].step
    return Subject(name, None if chosen.step == last else chosen.step)
