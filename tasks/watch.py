"""Watch live canaries: look at their traffic, and give them more of it, take it away, or leave them as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from worker.app import app
from worker.crash import crash_point

if TYPE_CHECKING:
    from db.canaries import Canary

log = get_task_logger(__name__)

WATCH_SECONDS = 240.0
"""For all canaries together, well below the task's limit: adding up the traffic of days takes a while."""
LOOK_PART = 0.75
"""Of a canary's time; the rest is for what the look leads to, which may wait for the line's lock."""


@app.task(name="rlfleet.watch_releases", time_limit=300)
def watch_releases(period_seconds: int = 0) -> str:
    """Look at every live canary and do what the look says. With a period, only the first of that tick does.

    Two that look at the same moment do it once. One canary that cannot be looked at, or takes its time, does not keep
    the others from it: each has an equal part of the time that is left, and whose last look is the oldest comes first.

    Raises:
        Exception: the first canary's that could not be looked at, once the others were.
    """
    from db import canaries
    from db.session import transaction
    from db.slots import take_slot

    if period_seconds and not take_slot("release", period_seconds):
        return "release: this tick is taken"
    crash_point("after-slot", "watch_releases")
    with transaction() as session:
        live = canaries.canaries(session)
    said, wrong = [], []
    for canary, seconds in _in_turn(live):
        try:
            said.append(_watch(canary, seconds))
        except Exception as error:
            log.exception("%s cannot be looked at", canary.version)
            wrong.append(error)
    if wrong:
        raise wrong[0]
    return "; ".join(said) or "no canary is live"


def _in_turn(live: Sequence[Canary]) -> Iterator[tuple[Canary, float]]:
    """The canaries, each with the seconds that it may take. Those that the time is too short for come first next."""
    until = time.monotonic() + WATCH_SECONDS
    waiting = sorted(live, key=lambda one: one.seen_at or one.began)
    for number, canary in enumerate(waiting):
        left = until - time.monotonic()
        if left < 1:
            log.warning("no time was left to look at %s", ", ".join(one.version for one in waiting[number:]))
            return
        yield canary, left / (len(waiting) - number)


def _watch(canary: Canary, seconds: float) -> str:
    """What became of the canary, within so many seconds. The line is not locked while its traffic is added up."""
    from db import live, watching
    from db.session import transaction
    from rl.live import looked

    with transaction(seconds) as session:
        if not live.is_alone(session, canary):
            return f"{canary.version}: somebody else looks at it"
        seen = live.seen(session, canary, seconds * LOOK_PART)
    look = looked(seen, canary.plan, canary.place)
    crash_point("before-finish", "watch_releases")
    with transaction(max(seconds * (1 - LOOK_PART), 1.0)) as session:
        is_done = watching.carry_out(session, canary, look)
        crash_point("before-commit", "watch_releases")
    crash_point("after-commit", "watch_releases")
    done = f"{look.step.action} at {canary.share} %: {look.step.reason}" if is_done else "its line changed meanwhile"
    if look.step.action != "hold":
        log.warning("canary %s: %s", canary.version, done)
    return f"{canary.version}: {done}"
