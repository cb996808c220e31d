"""Watch live canaries: look at their traffic, and give them more of it, take it away, or leave them as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.errors import InvalidInput
from worker.app import app
from worker.crash import crash_point

if TYPE_CHECKING:
    from db.canaries import Canary

log = get_task_logger(__name__)

PATIENCE_SECONDS = 240.0
"""Adding up the traffic of days takes a while."""


@app.task(name="rlfleet.watch_releases", time_limit=300)
def watch_releases(period_seconds: int = 0) -> str:
    """Look at every live canary and do what the look says. With a period, only the first of that tick does.

    Two that look at the same moment do it once. One canary that cannot be looked at does not keep the others from it.

    Raises:
        InvalidInput: rows of a canary that cannot be, once the others were looked at.
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
    for canary in live:
        try:
            said.append(_watch(canary))
        except InvalidInput as error:
            log.error("%s cannot be looked at: %s", canary.version, error)
            wrong.append(error)
    if wrong:
        raise wrong[0]
    return "; ".join(said) or "no canary is live"


def _watch(canary: Canary) -> str:
    """What became of the canary. The line is not locked while its traffic is added up."""
    from db import live, watching
    from db.session import transaction
    from rl.live import looked

    with transaction(PATIENCE_SECONDS) as session:
        seen = live.seen(session, canary)
    look = looked(seen, canary.plan, canary.place)
    crash_point("before-finish", "watch_releases")
    with transaction() as session:
        is_done = watching.carry_out(session, canary, look)
        crash_point("before-commit", "watch_releases")
    crash_point("after-commit", "watch_releases")
    done = f"{look.step.action} at {canary.share} %: {look.step.reason}" if is_done else "its line changed meanwhile"
    if look.step.action != "hold":
        log.warning("canary %s: %s", canary.version, done)
    return f"{canary.version}: {done}"
