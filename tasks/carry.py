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

from celery.utils.log import get_task_logger

from rl.errors import Cancelled, DatabaseUnavailable, Fenced, PermanentError, RlfleetError, TransientError
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim

    Effect = Callable[[Session], Mapping[str, Any]]
    Work = Callable[[Claim, "Lease"], Effect]

T = TypeVar("T")

log = get_task_logger(__name__)

BEAT_SECONDS = 2.0
"""People look at the progress that a beat stores, so it is renewed far more often than a lease needs."""


class Lease:
    """Renews a claim while the work moves.

    ``beat`` is cheap and can be called as often as is convenient: it writes every two seconds, or every quarter of
    a shorter lease. A database that is away is tolerated until the lease has run out on this machine's own clock.
    """

    def __init__(self, claim: Claim, seconds: float) -> None:
        self.claim, self.seconds = claim, seconds
        self._renewed = time.monotonic()

    def beat(self, progress: Mapping[str, Any] | None = None) -> None:
        """Renew if it is time to.

        Raises:
            Fenced: another holder has the job, or the lease ran out while the database was away.
            Cancelled: a person asked to stop.
        """
        from db import jobs

        now = time.monotonic()
        if now - self._renewed < min(self.seconds / 4, BEAT_SECONDS):
            return
        try:
            jobs.heartbeat(self.claim, self.seconds, progress)
            self._renewed = now
        except DatabaseUnavailable as error:
            if now - self._renewed > self.seconds:
                raise Fenced(f"job {self.claim.job_id}: the lease ran out while the database was away") from error

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


def carry_out(job_id: int, work: Work) -> str:
    """Do the job if it is there to be done, and say in one line what became of it.

    Raises:
        PermanentError: the job has failed, and only a person or other inputs can change that.
    """
    from db import job_views, jobs

    claim = jobs.claim(job_id, owner(), settings().lease_seconds)
    if claim is None:
        return str(job_views.summary(job_id) or f"job {job_id}: no such job")
    try:
        _attempt(claim, work)
    except Fenced as error:
        return str(error)
    _what_is_next(claim.line)
    return str(job_views.summary(job_id))


def _attempt(claim: Claim, work: Work) -> None:
    """Do the work and write down how it ended.

    Raises:
        Fenced: another holder has the job; nothing was written.
    """
    from db import jobs

    try:
        _work(claim, work)
    except Fenced:
        raise
    except Cancelled:
        jobs.end_cancelled(claim)
    except SystemExit:
        jobs.release(claim, "the worker is going down")
        raise
    except PermanentError as error:
        jobs.fail(claim, f"{type(error).__name__}: {error}", retry=False)
        log.error("job %s fence %s: %s", claim.job_id, claim.fence, error)
        raise
    except Exception as error:
        state = jobs.fail(claim, f"{type(error).__name__}: {error}", retry=True)
        unexpected = not isinstance(error, TransientError)
        log.warning("job %s fence %s is %s", claim.job_id, claim.fence, state, exc_info=unexpected)


def _work(claim: Claim, work: Work) -> None:
    from db import jobs
    from db.session import transaction

    effect = work(claim, Lease(claim, settings().lease_seconds))
    with transaction() as session:
        jobs.finish(session, claim, effect)


def _what_is_next(line: str) -> None:
    """Ask for and ring what this job made possible; the reconciler does the same a little later if this fails."""
    from tasks.ring import advance

    try:
        advance(line)
    except RlfleetError as error:
        log.warning("line %s was not advanced, the reconciler will: %s", line, error)
