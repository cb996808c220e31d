"""Keeping the artifact store as the rows say: what it lacks is sent there, what nobody needs any more is removed.

Nothing here fails a job or holds one up for longer than its patience: what could not be sent is noted in
``rlfleet.mirrors``, and whoever has the folder sends it later.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.errors import DatabaseRefused, DatabaseUnavailable, InvalidInput, RlfleetError, StoreRefused, StoreUnavailable
from rl.remote import is_remote
from tasks.stored import here
from worker.drain import draining
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from backends.store import Store
    from db.stored import Copied
    from rl.protocol import CheckpointWritten
    from tasks.carry import Lease

log = get_task_logger(__name__)

NONE = "no store is set"
HANGS_SECONDS = 9.0
"""A store that took nothing of a checkpoint for so long is left alone for a while. A pass has ten seconds or more."""
MOST_FAILED = 2
"""Where so many checkpoints were not taken in a pass, the cause is hardly theirs."""


def at_once(written: Sequence[CheckpointWritten], lease: Lease) -> frozenset[str]:
    """Send a training's new checkpoints to the store, for at most ``RLFLEET_STORE_SECONDS``. The hashes it has then.

    Whatever goes wrong with the store is logged, and the training goes on. The lease is renewed meanwhile.

    Raises:
        Fenced, Cancelled: the lease said so.
    """
    from backends.settings import store_settings

    there: set[str] = set()
    try:
        url, seconds = store_settings().url, store_settings().seconds
        if not url:
            return frozenset()
        from backends.store import Store

        store = Store(url)
    except RlfleetError as error:
        log.warning("job %s: its checkpoints wait for the store: %s", lease.claim.job_id, error)
        return frozenset()
    asyncio.run(_bounded(store, written, there, lease, time.monotonic() + seconds))
    return frozenset(there)


async def _bounded(
    store: Store, written: Sequence[CheckpointWritten], there: set[str], lease: Lease, until: float
) -> None:
    """Have all of them sent, until that moment or until the worker is told to stop."""
    sending = asyncio.ensure_future(_send_all(store, written, there))
    try:
        while not (await asyncio.wait({sending}, timeout=1.0))[0]:
            lease.keep(lease.progress)
            if draining() or time.monotonic() > until:
                log.warning("job %s: %s of %s in the store", lease.claim.job_id, len(there), len(written))
                return
        if (error := sending.exception()) is not None:
            log.warning("job %s: its checkpoints wait for the store: %s", lease.claim.job_id, error)
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _send_all(store: Store, written: Sequence[CheckpointWritten], there: set[str]) -> None:
    from backends import checkpoints

    for one in reversed(written):  # the last is the version's own
        if not is_remote(one.path):
            await checkpoints.publish(store, Path(one.path), one.sha256)
            there.add(one.sha256)


def note_new(session: Session, job_id: int, there: Collection[str]) -> None:
    """Write down of a training's checkpoints which the store has, and which it is to have."""
    from backends.settings import store_settings
    from db import stored

    try:
        is_set = bool(store_settings().url)
    except RlfleetError:
        is_set = False
    if is_set:
        stored.note_new(session, job_id, there)


def catch_up(deadline: float) -> str:
    """Send what the store lacks and this host has, until ``deadline`` (monotonic seconds); says what was done.

    Folders that are not on this host are another's to send. Whatever goes wrong is noted and logged.

    Raises:
        DatabaseUnavailable, DatabaseRefused: the database went away, or does not let us.
    """
    from backends.settings import store_settings
    from backends.store import Store
    from db import stored
    from db.session import transaction

    found: list[Copied] = []
    try:
        if not (url := store_settings().url):
            return NONE
        with _alone() as is_mine:
            if not is_mine:
                return "store: another process of this host sends"
            with transaction() as session:
                waiting = stored.waiting(session)
            found = [one for one in waiting if Path(here(one.uri)).is_dir()]
            if not any(one.is_due for one in found):
                return f"store: {len(found)} wait for their next try" if found else "store: nothing waits here"
            return asyncio.run(_catch_up(Store(url), found, deadline))
    except (DatabaseUnavailable, DatabaseRefused):
        raise
    except RlfleetError as error:  # of the store or its settings, and so of all of them
        _note_failed([one for one in found if one.is_due], error)
        return f"store: {error}"


class _Progress:
    """How many parts of a checkpoint the store has. ``asked_at``: since when it is asked, once the folder was read."""

    def __init__(self, sent: int) -> None:
        self.began = self.sent = sent
        self.asked_at: float | None = None

    def __call__(self, sent: int) -> None:
        self.sent, self.asked_at = sent, self.asked_at or time.monotonic()

    @property
    def hangs(self) -> bool:
        """Whether the store was given enough time and took nothing."""
        is_long = self.asked_at is not None and time.monotonic() - self.asked_at >= HANGS_SECONDS
        return is_long and self.sent == self.began


async def _catch_up(store: Store, found: list[Copied], deadline: float) -> str:
    """Those that are due first. Once one was taken the store is well, and the others need not wait either.

    Where nothing was taken, all that are due wait: the store is away, or one that it refuses came first by chance.
    A pass that its own deadline ends says nothing against a store that took something, or was hardly asked.
    """
    from backends import checkpoints

    errors: dict[Copied, RlfleetError] = {}
    tried: dict[Copied, _Progress] = {}
    done = 0
    for one in sorted(found, key=lambda one: not one.is_due):
        if not (one.is_due or done) or len(errors) == MOST_FAILED or time.monotonic() > deadline:
            break
        sent = tried[one] = _Progress(one.sent)
        _note_begun(one)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await checkpoints.publish(store, Path(here(one.uri)), one.sha256, one.sent, sent)
        except TimeoutError:
            if sent.hangs and not done:
                errors[one] = StoreUnavailable(f"{store.url} took nothing of a checkpoint while it was waited for")
            elif sent.sent > one.sent:
                _note(one, sent.sent, done=False)
            break
        except (StoreRefused, StoreUnavailable) as error:
            if sent.sent > one.sent:
                _note(one, sent.sent, done=False)
            errors[one] = error
        except (InvalidInput, OSError, ValueError) as error:  # of this folder alone
            _note_failed([one], error)
        else:
            _note(one, 0, done=True)
            done += 1
    for one, why in errors.items():
        _note_failed([one], why)
    took = done or any(sent.sent > sent.began for sent in tried.values())
    others = [one for one in found if one.is_due and one not in tried]
    if errors and others and not took:
        _note_failed(others, [*errors.values()][-1])
    return "; ".join([f"store: {done} of {len(found)} sent", *dict.fromkeys(map(str, errors.values()))])


def _note_begun(one: Copied) -> None:
    from db import stored
    from db.session import transaction

    with transaction() as session:
        stored.note_begun(session, one.id)


def _note(one: Copied, sent: int, *, done: bool) -> None:
    from db import mirrors, stored
    from db.session import transaction

    with transaction() as session:
        mirrors.note(session, stored.TARGET, stored.KIND, one.id, sent, done=done)


def _note_failed(those: Sequence[Copied], error: Exception) -> None:
    from db import mirrors, stored
    from db.session import transaction

    log.warning("the store lacks %s checkpoints of this host: %s", len(those), error)
    with transaction() as session:
        for one in those:
            mirrors.failed(session, stored.TARGET, stored.KIND, one.id, str(error))


def would_remove() -> list[Copied]:
    """What ``sweep`` would take out of the store now; nothing where no store is set here."""
    from backends.settings import store_settings
    from db import stored
    from db.session import transaction

    if not store_settings().url:
        return []
    with transaction() as session:
        return stored.given_up(session)


def sweep(deadline: float, tell: Callable[[str], object] = log.warning) -> tuple[int, bool]:
    """Take out of the store what retention gave up, until ``deadline`` (monotonic seconds). How many; whether all.

    What fails is told, left to the next pass, and holds up no other. A store that does not answer until then counts as
    one that fails. In no order: one that the store hangs at is not always the first.
    """
    from backends.settings import store_settings
    from backends.store import Store

    removed = 0
    try:
        if not (given_up := would_remove()):
            return 0, True
        store = Store(store_settings().url)
    except (DatabaseUnavailable, DatabaseRefused):
        raise
    except RlfleetError as error:
        tell(f"what nobody needs stays in the store until the next pass: {error}")
        return 0, True
    for one in random.sample(given_up, len(given_up)):
        if time.monotonic() > deadline:
            return removed, False
        try:
            removed += asyncio.run(_remove(store, one.sha256, deadline))
        except TimeoutError:
            tell(f"checkpoint {one.sha256[:12]} was not taken out of {store.url} in time")
            return removed, not store.deleted
        except (StoreRefused, StoreUnavailable) as error:
            tell(f"checkpoint {one.sha256[:12]} stays in the store until the next pass: {error}")
    return removed, True


async def _remove(store: Store, sha256: str, deadline: float) -> bool:
    from backends import checkpoints
    from db import stored
    from db.session import transaction

    with transaction() as session:
        if not stored.given_up(session, sha256):  # somebody needs it again
            return False
        began = stored.grace_began(session)
    async with asyncio.timeout(deadline - time.monotonic() if deadline < math.inf else None):
        if not await checkpoints.remove(store, sha256, began):
            return False
    with transaction() as session:
        stored.forget(session, sha256)
    return True


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other process of this host sends what is missing at the moment."""
    state = settings().state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "store.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
