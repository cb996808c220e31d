"""What a look at a live canary leads to, in one transaction: its share, its version's state, a decision, an alert."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import alerts, canaries, releases, remedies
from db.canaries import Canary
from db.tables import Decision
from rl.live import Look

POLICY = "canary"
"""The policy of a decision that was made on live traffic."""
ACTOR = "rlfleet"

ROLLED_BACK, FINISHED, STARVING = "canary_rolled_back", "canary_finished", "canary_without_rewards"
UNWATCHED = "canary_unwatched"
UNWATCHED_SECONDS = 600
"""A canary is looked at every minute, and a look has four minutes at most."""
HOW_TO_LOG = (
    "end trajectories with a reward, or send feedback named as the primary signal, under the X-Trajectory-Id of their "
    "calls (docs/recorder.md); or end the test with "
)

TOLD = text(
    "select 1 from rlfleet.alerts where name = :name and subject = :subject and detail ->> 'release' = :release"
)


def carry_out(session: Session, canary: Canary, look: Look) -> bool:
    """Store the look and do what it says. False, and nothing is done, when the line's releases changed meanwhile."""
    releases.lock(session, canary.line_id)
    if not _is_as_looked_at(session, canary):
        return False
    canaries.looked(session, canary.release_id, look.model_dump(mode="json"))
    if look.step.action == "advance":
        releases.advance(session, canary.release_id, look.step.share, look.step.reason)
    elif look.step.action == "finish":
        _decide(session, canary, look, released=True)
        releases.finish(session, canary.release_id, look.step.reason)
        alerts.record(session, FINISHED, canary.version, _detail(canary, look))
    elif look.step.action == "roll back":
        _decide(session, canary, look, released=False)
        releases.roll_back_canary(session, canary.release_id, look.step.reason)
        alerts.record(session, ROLLED_BACK, canary.version, _detail(canary, look))
    elif look.is_starving:
        _tell_once(session, canary, look)
    return True


UNSEEN = text("""
    select l.name as line, v.name as version, coalesce(r.looked_at, r.created_at) as since
      from rlfleet.releases r join rlfleet.lines l on l.id = r.line_id join rlfleet.versions v on v.id = r.version_id
     where r.stage = 'canary' and r.ended_at is null
       and coalesce(r.looked_at, r.created_at) < now() - make_interval(secs => :seconds)
     order by l.name
""")


def alert_unwatched(session: Session) -> list[str]:
    """Tell a person of each live canary that nobody looked at for ten minutes, once an hour; their versions."""
    remedy = (
        "see the log of the workers of queue maint for why `rlfleet.watch_releases` does not end; until it does, "
        "nothing rolls the canary back but `rlfleet rollback`"
    )
    unseen = session.execute(UNSEEN, {"seconds": UNWATCHED_SECONDS}).all()
    for one in unseen:
        detail = {"line": one.line, "since": one.since.isoformat(), "remedy": remedy}
        alerts.raise_alert(session, UNWATCHED, one.version, detail)
    return [one.version for one in unseen]


def _is_as_looked_at(session: Session, canary: Canary) -> bool:
    live, stable = (
        releases.current(session, canary.line_id, "canary"),
        releases.current(session, canary.line_id, "stable"),
    )
    return (live.id if live else None, stable.version_id if stable else None) == (canary.release_id, canary.stable_id)


def _decide(session: Session, canary: Canary, look: Look, *, released: bool) -> None:
    session.add(
        Decision(
            line_id=canary.line_id,
            version_id=canary.version_id,
            stable_id=canary.stable_id,
            policy=POLICY,
            released=released,
            reason=look.step.reason,
            evidence=look.model_dump(mode="json"),
            actor=ACTOR,
        )
    )


def _tell_once(session: Session, canary: Canary, look: Look) -> None:
    """Once for each share that the canary has: it waits for what only its agents can give."""
    told = {"name": STARVING, "subject": canary.version, "release": str(canary.release_id)}
    if session.execute(TOLD, told).first() is None:
        stay = f"`rlfleet deploy {canary.version} --strategy immediate --reason TEXT`"
        remedy = f"{HOW_TO_LOG}{stay} or {remedies.rollback(session, canary.line_id)}"
        alerts.record(session, STARVING, canary.version, _detail(canary, look) | {"remedy": remedy})


def _detail(canary: Canary, look: Look) -> dict[str, object]:
    return {
        "line": canary.line,
        "release": str(canary.release_id),
        "stable": canary.stable,
        "share": canary.share,
        "began": canary.began.isoformat(),
        "reason": look.step.reason,
    }
