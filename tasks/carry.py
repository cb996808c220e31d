"""How every stage is carried out: claim, work under a lease, commit the effect with the fence, look for what is next.

A stage is a function ``work(claim, lease) -> effect``; the effect writes rows in the transaction that ends the job.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from celery import current_task
from celery.utils.log import get_task_logger

from rl.errors import (
    Cancelled,
    DatabaseUnavailable,
    Drained,
    Fenced,
    Later,
    OutOfMemory,
    PermanentError,
    RlfleetError,
    ServiceAway,
    StoreRefused,
    StoreUnavailable,
    Tomorrow,
    TransientError,
)
from rl.logs import about
from worker.crash import crash_point
from worker.drain import draining
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim

    Effect = Callable[[Session], Mapping[str, Any]]
    Work = Callable[[Claim, "Lease"], Effect]

T = TypeVar("T")

PLAN_SECONDS = 1.0
_planned: dict[str, float] = {}
"""When this process last planned a line."""
COMMIT_SECONDS = 600.0
"""Work that is done waits so long for a database that is away: the fence, and not the time, says whether it counts."""
STORE_SECONDS = 60
"""Whoever has a checkpoint sends it once a minute: the wait of a job whose attempt the store refused, or gave what is
damaged; and the longest of one whose store was away, or lacked it."""
MOST_DOUBLED = 6
"""Two to this is longer already. A fence is bounded by nothing: a job may wait for days."""

log = get_task_logger(__name__)

BEAT_SECONDS = 2.0
"""People look at the progress that a beat stores, so it is renewed far more often than a lease needs."""


class Lease:
    """Renews a claim while the work moves.

    ``beat`` is cheap and can be called as often as is convenient: it writes every two seconds, or every quarter of
    a shorter lease. A database that is away is tolerated until the lease has run out on this machine's own clock.
    With ``leaves``, the work is handed back as soon as the worker is told to stop; else it has the time of the soft
    shutdown to end. An attempt that ``gets_on`` has stored what the next one need not do again, and is not charged
    where it fails and may be tried again. ``progress`` is what this attempt said last, written or not.
    """

    def __init__(self, claim: Claim, seconds: float, *, leaves: bool = False) -> None:
        self.claim, self.seconds, self.leaves, self.gets_on = claim, seconds, leaves, False
        self._renewed = time.monotonic()
        self.progress: Mapping[str, Any] | None = None
        self._unwritten: Mapping[str, Any] | None = None

    def beat(self, progress: Mapping[str, Any] | None = None) -> None:
        """Renew if it is time to.

        Raises:
            Fenced: another holder has the job, or the lease ran out while the database was away.
            Cancelled: a person asked to stop.
            Drained: the worker is going down, and this work leaves at once.
        """
        if self.leaves and draining():
            raise Drained
        self.keep(progress)

    def keep(self, progress: Mapping[str, Any] | None = None) -> None:
        """Renew if it is time to, also while the worker is going down. Raises ``Fenced`` and ``Cancelled``."""
        self.progress = progress or self.progress
        if time.monotonic() - self._renewed >= min(self.seconds / 4, BEAT_SECONDS):
            self.renew(progress)

    def renew(self, progress: Mapping[str, Any] | None = None, resume: Mapping[str, Any] | None = None) -> None:
        """Renew now, and write down the progress and where a state was saved. Raises as ``beat`` does."""
        from db import jobs

        crash_point("before-heartbeat", self.claim.kind)
        now = time.monotonic()
        self._unwritten = resume or self._unwritten
        try:
            jobs.heartbeat(self.claim, self.seconds, progress, self._unwritten)
            self._renewed, self._unwritten = now, None
        except DatabaseUnavailable as error:
            if now - self._renewed > self.seconds:
                raise Fenced(f"job {self.claim.job_id}: the lease ran out while the database was away") from error
        crash_point("after-heartbeat", self.claim.kind)

    def store(self, progress: Mapping[str, Any] | None, resume: Mapping[str, Any]) -> None:
        """Renew as ``renew`` does, and return only once it is written. Raises ``Fenced`` and ``Cancelled``."""
        self.renew(progress, resume)
        while self._unwritten is not None:
            time.sleep(min(self.seconds / 8, 1.0))
            self.renew(progress)

    async def during(self, work: Awaitable[T]) -> T:
        """Await ``work`` and beat about once a second meanwhile; what a beat raises cancels the work."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=1.0))[0]:
                self.beat()
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    def count(self, about: Mapping[str, Any]) -> Callable[[object, int, int], None]:
        """A callback ``(outcome, done, total)`` that beats with ``about``, the counts and episodes a second."""
        started = time.monotonic()

        def beat(_: object, done: int, total: int) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            self.beat({**about, "done": done, "total": total, "per_second": round(rate, 1)})

        return beat


def owner() -> str:
    """Who holds a claim: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def carry_out(job_id: int, work: Work, *, leaves: bool = False) -> str:
    """Do the job if it is there to be done, and say in one line what became of it. For ``leaves`` see ``Lease``.

    Raises:
        PermanentError: the job has failed, and only a person or other inputs can change that.
    """
    from db import job_views, jobs

    here, task = settings(), current_task.name.rpartition(".")[2] if current_task else ""
    crash_point("before-claim", task)
    claim = jobs.claim(job_id, owner(), here.lease_seconds, message_id(), here.device_count)
    if claim is None:
        return str(job_views.summary(job_id) or f"job {job_id}: no such job")
    about(job=claim.job_id, fence=claim.fence, window=_window_of(claim), line=claim.line)
    crash_point("after-claim", claim.kind)
    try:
        result = _attempt(claim, work, Lease(claim, here.lease_seconds, leaves=leaves))
    except Fenced as error:
        return str(error)
    crash_point("after-commit", claim.kind)
    _what_is_next(claim.line)
    crash_point("before-ack", claim.kind)
    return str(job_views.summary(job_id) if result is None else job_views.succeeded(claim, result))


def _window_of(claim: Claim) -> str | None:
    """The window that the job is about, or the first and the last of several."""
    windows = claim.inputs.get("windows") or [claim.inputs.get("window")]
    return windows[0] if len(windows) == 1 else f"{windows[0]}..{windows[-1]}"


def message_id() -> str | None:
    """The id of the message that is being answered; None outside a task."""
    return current_task.request.id if current_task else None


def _attempt(claim: Claim, work: Work, lease: Lease) -> Mapping[str, Any] | None:
    """Do the work and write down how it ended. Returns its result if it ended well.

    Raises:
        Fenced: another holder has the job; nothing was written.
    """
    from db import dispatch, jobs

    try:
        return _work(claim, work, lease)
    except Fenced:
        raise
    except Cancelled:
        jobs.end_cancelled(claim)
    except Drained as error:
        jobs.release(claim, _storable(str(error)), error.resume)
    except (ServiceAway, StoreUnavailable) as error:
        dispatch.put_off(claim, _said(error), min(2 ** min(claim.fence, MOST_DOUBLED), STORE_SECONDS))
        log.warning("job %s fence %s waits: %s", claim.job_id, claim.fence, _storable(str(error)))
    except Later as error:
        dispatch.put_off(claim, _storable(str(error)), error.seconds)
        log.info("job %s fence %s waits: %s", claim.job_id, claim.fence, _storable(str(error)))
    except Tomorrow as error:
        jobs.release(claim, _storable(str(error)), tomorrow=True)
        log.warning("job %s fence %s waits until tomorrow: %s", claim.job_id, claim.fence, _storable(str(error)))
    except SystemExit:
        jobs.release(claim, "the worker is going down")
        raise
    except PermanentError as error:
        jobs.fail(claim, _said(error), retry=False)
        log.error("job %s fence %s: %s", claim.job_id, claim.fence, _storable(str(error)))
        raise
    except Exception as error:
        adjust = error.adjust if isinstance(error, OutOfMemory) else None
        wait = STORE_SECONDS if isinstance(error, StoreRefused) else 0
        state = jobs.fail(claim, _said(error), retry=True, adjust=adjust, free=lease.gets_on, wait=wait)
        unexpected = not isinstance(error, TransientError)
        log.warning("job %s fence %s is %s", claim.job_id, claim.fence, state, exc_info=unexpected)
    return None


def _said(error: Exception) -> str:
    """The error for the job's row and for alerts. Of a foreign one the first line: the next ones may quote rows."""
    said = str(error)
    if not isinstance(error, RlfleetError):
        said = said.split("\n", 1)[0]
    return _storable(f"{type(error).__name__}: {said}")


def _storable(said: str) -> str:
    """The words as Postgres takes them: errors may quote what a model or a server wrote."""
    return said.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _work(claim: Claim, work: Work, lease: Lease) -> Mapping[str, Any]:
    effect = work(claim, lease)
    crash_point("before-finish", claim.kind)
    deadline = time.monotonic() + COMMIT_SECONDS
    while True:
        try:
            return _commit(claim, effect, lease.progress)
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            log.warning("job %s fence %s is done, and waits for the database", claim.job_id, claim.fence)
            time.sleep(1)


def _commit(claim: Claim, effect: Effect, progress: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Commit the effect and the end of the job together; safe to call again when the answer to a commit was lost."""
    from db import job_views, jobs
    from db.session import transaction

    try:
        with transaction() as session:
            result = jobs.finish(session, claim, effect, progress)
            crash_point("before-commit", claim.kind)
    except Fenced:
        if (known := job_views.result_of(claim)) is None:
            raise
        return known
    return result


def _what_is_next(line: str) -> None:
    """Ask for and ring what this job made possible; the reconciler does the same a little later if this fails.

    While there is more to ring, the end of another job is near: a line is then planned once a second at most.
    """
    from tasks.ring import advance, ring

    try:
        if time.monotonic() - _planned.get(line, -PLAN_SECONDS) < PLAN_SECONDS and ring():
            return
        _planned[line] = time.monotonic()
        advance(line)
    except RlfleetError as error:
        log.warning("line %s was not advanced, the reconciler will: %s", line, error)
