"""Mirror: every place that copies of trainings, versions or checkpoints go to gets what it lacks.

It looks at what is and at what each place has, so a place that is away misses nothing; what fails is noted and waits
longer each time, and is nobody else's trouble: no training, evaluation or release ever waits for a copy.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.errors import DatabaseUnavailable, InvalidSettings, RlfleetError
from worker.app import app
from worker.crash import crash_point
from worker.settings import settings

if TYPE_CHECKING:
    from backends.sinks import Sink

log = get_task_logger(__name__)

BUDGET_SECONDS = 20.0
"""What one tick may take of a queue that is shared with the reconciler; the next goes on."""


@app.task(name="rlfleet.mirror", time_limit=300)
def mirror(period_seconds: int = 0) -> str:
    """Bring what is configured up to date. With a period, only the first of that tick does."""
    from db.slots import take_slot

    if period_seconds and not take_slot("mirror", period_seconds):
        return "mirror: this tick is taken"
    begun = time.monotonic()
    said = [*_runs(begun + BUDGET_SECONDS / 2), _checkpoints(begun + BUDGET_SECONDS), _publications()]
    return "; ".join(filter(None, said)) or "nothing to copy"


def _checkpoints(deadline: float) -> str:
    """What became of the copies of checkpoints; nothing where no store is set."""
    from tasks import storing

    try:
        said = storing.catch_up(deadline)
    except DatabaseUnavailable:
        raise
    except Exception as error:  # of any client of any store
        log.exception("checkpoints were not copied; the next tick tries again")
        return f"checkpoints: {type(error).__name__}"
    return "" if said == storing.NONE else said


def _publications() -> str:
    """What became of the versions that were left to the fleet to publish."""
    from tasks import publishing

    try:
        return publishing.catch_up()
    except DatabaseUnavailable:
        raise
    except Exception as error:
        log.exception("nothing was published; the next tick tries again")
        return f"hub: {type(error).__name__}"


def _runs(deadline: float) -> list[str]:
    """What became of the copies of runs, a word for each sink."""
    from backends.sink_settings import NAMES, chosen
    from db import mirrors
    from db.session import transaction

    try:
        names = chosen()
    except InvalidSettings as error:
        log.error("no run is copied until this is corrected: %s", error)
        return ["runs: wrong settings"]
    with transaction() as session:
        mirrors.forget(session, [name for name in NAMES if name not in names])
    said = []
    for at, name in enumerate(names):
        now = time.monotonic()
        said.append(_catch_up(name, now + (deadline - now) / (len(names) - at)))  # a slow one leaves the others theirs
    return said


def _catch_up(name: str, deadline: float) -> str:
    """What became of one sink, whose failure is its own."""
    from backends.sinks import made

    try:
        sink = made(name, settings().artifacts.resolve(), settings().state.resolve())
        copied, failed = _arrived(sink)
        counts, left = _put(sink, deadline)
    except DatabaseUnavailable:
        raise
    except Exception as error:
        log.exception("nothing was copied to %s; a later tick tries again", name)
        _note(name, f"{type(error).__name__}: {error}")
        return f"{name}: {type(error).__name__}"
    found = {"copied": copied + counts[True], "failed": failed + counts[False], "more follow": left}
    words = ", ".join(f"{count} {what}" for what, count in found.items() if count)
    return f"{name}: {words}" if words else ""


def _note(name: str, error: str) -> None:
    """Write the failure down for every run that waits for that sink."""
    from db import mirrored
    from db.session import transaction

    with transaction() as session:
        for job_id in mirrored.due(session, name):
            mirrored.failed(session, name, job_id, error)


def _arrived(sink: Sink) -> tuple[int, int]:
    """Write down which runs arrived there meanwhile, and which did not: how many of each.

    Word of a job of another database, which the folder that it lies in was once used with, is none.
    """
    from db import mirrored
    from db.session import transaction
    from tasks.mirrored_run import key_of

    copied = failed = 0
    for one in sink.arrived():
        with transaction() as session:
            origin = mirrored.origin(session, int(one.mark["job"] or 0))
            if origin is None or key_of(origin) != one.mark.get("key"):
                log.warning("what %s says of job %s is of another database", sink.name, one.mark["job"])
                continue
            if one.error is None:
                mirrored.arrived(session, sink.name, one.mark)
            else:
                mirrored.failed(session, sink.name, int(one.mark["job"] or 0), one.error)
        copied, failed = copied + (one.error is None), failed + (one.error is not None)
    return copied, failed


def _put(sink: Sink, deadline: float) -> tuple[dict[bool | None, int], int]:
    """How many of the runs that it lacks something of are there, are not, or are on their way; how many are left."""
    from db import mirrored
    from db.session import transaction

    with transaction() as session:
        waiting = mirrored.due(session, sink.name, sink.place)
    counts: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    for job_id in waiting:
        if sum(counts.values()) and time.monotonic() > deadline:  # each tick brings each sink on by one at least
            break
        counts[_copy(sink, job_id)] += 1
    return counts, len(waiting) - sum(counts.values())


def _copy(sink: Sink, job_id: int) -> bool | None:
    """Whether the run is there; None when it is on its way."""
    from db import mirrored
    from db.session import transaction
    from tasks.mirrored_models import see_to
    from tasks.mirrored_run import run_of

    copied = error = None
    try:
        with transaction() as session:
            training = mirrored.read(session, job_id)
        run = run_of(training, settings().artifacts.resolve())
        if sink.takes_models:
            see_to(run)
        copied = sink.put(replace(run, mark={**run.mark, "place": sink.place}))
    except DatabaseUnavailable:
        raise
    except (OSError, RlfleetError) as reason:
        error = str(reason)
    except Exception as reason:  # a run that nothing can be made of must not keep the others waiting
        log.exception("job %s cannot be copied to %s", job_id, sink.name)
        error = f"{type(reason).__name__}: {reason}"
    crash_point("after-put", "mirror")
    with transaction() as session:
        if error is not None:
            log.warning("%s has no copy of job %s: %s", sink.name, job_id, error)
            mirrored.failed(session, sink.name, job_id, error)
        elif copied is not None:
            mirrored.arrived(session, sink.name, copied.mark)
    return False if error is not None else True if copied is not None else None
