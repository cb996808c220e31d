"""A claim that is held while rows are written: whoever has the greatest fence may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.session import prepared
from rl.errors import Fenced

if TYPE_CHECKING:
    from db.jobs import Claim

HOLD = "select 1 from rlfleet.jobs where id = $1::bigint and fence = $2::bigint and state = 'running' for update"


LOCK_TIMEOUT = text("set local lock_timeout = '2s'")


def hold_briefly(session: Session, claim: Claim) -> None:
    """``hold``, and wait for no lock of this transaction for long: heartbeats need the job's row meanwhile.

    Raises:
        Fenced: as ``hold``.
        DatabaseUnavailable: from the transaction, where somebody else held what it needs.
    """
    session.execute(LOCK_TIMEOUT)
    hold(session, claim)


def hold(session: Session, claim: Claim) -> None:
    """Lock the job's row, so that no other holder can claim or commit until this transaction ends.

    Raises:
        Fenced: the lease was lost; the caller's transaction must roll back, and nothing was done.
    """
    if prepared(session, "hold", HOLD, job=claim.job_id, fence=claim.fence).one_or_none() is None:
        raise Fenced(f"job {claim.job_id} fence {claim.fence}: the lease was lost before its effect was committed")
