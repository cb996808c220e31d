"""A round of a run: what is stored of it, whether the version that plays it still may, and what ends it early."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import planning, versions, windows
from db.tables import Run, Version, Window
from db.wanted import ENDED
from rl.errors import NoTrainingData, PermanentError

FAILED = "rollout"
"""The ``source`` of a quarantined row that is an episode: ``row`` is its trajectory's id, ``field`` its boundary."""


PLAYABLE = ("open", "closed")
"""The states of a round that waits for episodes."""


@dataclass(frozen=True)
class Played:
    """An episode that counts as played. ``success`` is None where it failed, or was erased since."""

    trajectory_id: str
    success: bool | None
    failed: bool


PLAYED = text("""
    select k.trajectory_id, (t.details ->> 'success')::boolean, false
      from rlfleet.trajectory_keys k
      left join rlfleet.trajectories t on t.trajectory_id = k.trajectory_id and t.at = k.at
     where k.window_id = :window_id
    union all
    select q."row", null, true from rlfleet.quarantine q where q.window_id = :window_id and q.source = :failed
""")


def played(session: Session, window: Window) -> list[Played]:
    """The round's episodes that are stored, whichever job and attempt played them."""
    rows = session.execute(PLAYED, {"window_id": window.id, "failed": FAILED})
    return [Played(trajectory_id, success, failed) for trajectory_id, success, failed in rows]


def lost_player(session: Session, window: Window) -> str | None:
    """The version that plays the round, if it was rejected: it is served no more, and no other goes on in its place."""
    player = planning.policy_of(session, window)
    return player if versions.named(session, player)[0].state == "rejected" else None


def run_over(session: Session, window: Window) -> str | None:
    """What became of the round's run, in words; None where it goes on or is paused."""
    run = session.get_one(Run, window.run_id)
    return None if run.state in planning.OPEN else f"its run {run.name} is {run.state}"


def give_up(session: Session, window: Window, player: str) -> bool:
    """Skip a round that nobody plays on, so that its run goes on without it. False where it waits for nothing."""
    if window.state not in PLAYABLE:
        return False
    windows.move(session, window.id, "skipped", run_over(session, window) or f"its player {player} was rejected")
    return True


STUCK = text("""
    select count(*) filter (where state = any(:ended)) > 0
           and (:kind = 'collect' or count(*) filter (where state in ('queued', 'running')) = 0)
      from rlfleet.jobs
     where line_id = :line_id and kind = :kind
       and case :kind when 'train' then inputs -> 'windows' ->> 0 else inputs ->> 'window' end = :name
""")
"""A round needs each of its collect jobs, and one of the others."""
NEXT = {**dict.fromkeys(PLAYABLE, "collect"), "collected": "score", "scored": "train"}
"""The kind of job that a round in each state waits for."""


def is_stuck(session: Session, window: Window) -> bool:
    """Whether the job that is to move the round on has ended in vain."""
    if (kind := NEXT.get(window.state)) is None:
        return False
    about = {"line_id": window.line_id, "kind": kind, "name": window.name, "ended": list(ENDED)}
    return bool(session.scalar(STUCK, about))


def check_trainable(session: Session, window: Window) -> None:
    """A round that was given up is not trained on, nor one of a run that is over.

    Raises:
        NoTrainingData: says what became of it.
    """
    if window.state == "skipped":
        raise NoTrainingData(f"{window.name} is not trained on: it was skipped ({window.reason})")
    if (ended := run_over(session, window)) is not None:
        raise NoTrainingData(f"{window.name} is not trained on: {ended}; start a new run")


def check_base(session: Session, window: Window, player: str) -> None:
    """A run that lost the version it began at has nobody to play a round before it has trained one.

    Raises:
        PermanentError: the rejected ``player`` is that version.
    """
    run = session.get_one(Run, window.run_id)
    if session.get_one(Version, run.base_version_id).name != player:
        return
    ended = f"it is {run.state} already" if run.finished_at else f"`rlfleet finish {run.name}` ends it"
    raise PermanentError(
        f"{player} plays {window.name}, the run {run.name} began at it, and it was rejected; {ended}, and a new run "
        "begins at the version that is stable then"
    )
