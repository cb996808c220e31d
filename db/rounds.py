"""A round that is being played: what is stored of it, and whether the version that plays it still may."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import planning, versions, windows
from db.tables import Run, Version, Window
from rl.errors import PermanentError

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


def give_up(session: Session, window: Window, player: str) -> bool:
    """Skip a round that lost its ``player``, so that its run goes on without it. False where it waits for nothing."""
    if window.state not in PLAYABLE:
        return False
    windows.move(session, window.id, "skipped", f"its player {player} was rejected")
    return True


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
