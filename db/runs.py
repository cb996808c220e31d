"""What a run has come to: its rounds, its versions' verdicts, what was the best so far, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import lines, planning, rounds, wanted, windows
from db.tables import Line, Run
from rl.choosing import Ranking, points_of, ranking
from rl.deciding import judged_of, on
from rl.errors import InvalidInput
from rl.evaluating import coverage
from rl.line_state import LineState, RunState, Want
from rl.planner import plan, stops


def newest(session: Session, limit: int, before: int | None = None) -> list[Run]:
    """The newest runs that can be told of, the newest first; ``before`` is the oldest id that is known already."""
    can_be = select(Run).where(Run.base_version_id.is_not(None))
    paged = can_be if before is None else can_be.where(Run.id < before)
    return list(session.scalars(paged.order_by(Run.id.desc()).limit(limit)))


def told(session: Session, run: Run) -> dict[str, Any]:
    """The run for machines and people. ``waits`` says in words what it waits for, and what a person must do."""
    state, one = _state(session, run)
    found = _ranked(run, state, one)
    selection = found.select() if found.candidates else None
    early = one.config.early_stop
    rounds = [window for window in state.windows if window.run == run.name]
    return {
        "run": run.name,
        "line": state.name,
        "state": run.state,
        "reason": run.reason,
        "from": one.base,
        "rounds": {"trained": sum(each.state == "trained" for each in rounds), "of": one.config.rounds},
        "finishing": run.finishing,
        "versions": _versions(found, one),
        "best": None if selection is None else found.points[selection.pick].label,
        "tie_set": [] if selection is None else [found.points[place].label for place in selection.tie_set],
        "alarms": found.told(),
        "remarks": found.remarks(),
        "early_stop": None if early is None else early.model_dump() | {"said": stops(one, found) or None},
        "waits": [] if run.state not in planning.OPEN else list(_waits(session, run, state, one)),
    }


def resume(session: Session, name: str) -> str:
    """Have a paused run go on; the patience of its early stop counts anew. Returns its line's name.

    Raises:
        InvalidInput: no such run, or it is not paused.
    """
    run = lines.run_named(session, name)
    if run.state != "paused" or not lines.go_on(session, run.id, patient_from=_places(session, run)):
        raise InvalidInput("run", name, f"it is {run.state}, and only a paused run is resumed")
    return _line(session, run).name


def finish(session: Session, name: str) -> str:
    """Have a run end as if all its rounds had been played. Its line's name.

    A round is skipped whose player was rejected, or whose next job has failed, is dead or was cancelled.

    Raises:
        InvalidInput: no such run, or it has ended.
    """
    run = lines.run_named(session, name)
    if not lines.go_on(session, run.id, finishing=True):
        raise InvalidInput("run", name, f"it is {run.state} already: {run.reason}")
    for window in windows.of_run(session, run.id):
        if window.state in rounds.PLAYABLE and (player := rounds.lost_player(session, window)) is not None:
            rounds.give_up(session, window, player)
        elif rounds.is_stuck(session, window):
            windows.move(session, window.id, "skipped", "its run was finished")
    return _line(session, run).name


def _line(session: Session, run: Run) -> Line:
    return session.scalars(select(Line).where(Line.id == run.line_id)).one()


def _state(session: Session, run: Run) -> tuple[LineState, RunState]:
    state = planning.line_state(session, _line(session, run), run.name)
    return state, state.run(run.name)


def _places(session: Session, run: Run) -> int:
    """How many places its chain of checkpoints has: what it started from, and all that were trained since."""
    return max(judged_of(*_state(session, run))[1].points, default=0) + 1


def _ranked(run: Run, state: LineState, one: RunState) -> Ranking:
    """As the fleet chooses. Of a run that ended, also those that its own decision rejected, as its report shows it."""
    if run.state in planning.OPEN:
        return judged_of(state, one)[1]
    chain = state.chain(one)
    points = points_of(chain[0] if chain else None, chain[1:])
    return ranking(points, on(points, one.config.validation, None).results, one.config.validation)


def _versions(found: Ranking, run: RunState) -> list[dict[str, Any]]:
    counted = {one.step: one for one in found.candidates}
    listed = []
    for place, point in sorted(found.points.items()):
        result, one = point.on(run.config.validation), counted.get(place)
        listed.append(
            {
                "version": point.label,
                "state": point.version.state,
                "counts": None if one is None else list(one.overall),
                "mean": None if one is None else round(one.posterior_mean, 6),
                "coverage": 0.0 if result is None else round(coverage(run.config.validation, result), 4),
                "training_score": point.training_score,
            }
        )
    return listed


def _waits(session: Session, run: Run, state: LineState, one: RunState) -> Iterator[str]:
    if one.paused:
        yield f"{run.reason}; `rlfleet resume {run.name}` goes on, `rlfleet finish {run.name}` decides"
    if state.canary is not None:
        yield f"no run of the line ends while {state.canary} is its canary"
    for want in plan(replace(state, runs=(one,))):
        if isinstance(want, Want) and _is_of(want, state, one):
            yield wanted.became(session, run.line_id, state, want)


def _is_of(want: Want, state: LineState, one: RunState) -> bool:
    """Whether the job is the run's."""
    names = {version.name for version in state.chain(one)} | {state.stable}
    sets = [one.config.validation.model_dump(mode="json"), one.config.held_out.model_dump(mode="json")]
    if want.kind == "evaluate":
        return want.inputs["version"] in names and want.config in sets
    window = want.inputs.get("window") or (want.inputs.get("windows") or [""])[0]
    return want.inputs.get("run") == one.config.name or str(window).startswith(f"run/{one.config.name}/")
