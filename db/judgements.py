"""Answers of judges, and what they cost: a question that was answered is never paid for again.

A call is paid for before it is made: ``reserve`` writes down the most that it can cost, and the row stays at that until
somebody says what became of the call. So a crash, or an answer that never came, cannot make the day's sum too small.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.session import transaction
from db.tables.trajectories import Judgement, Score


@dataclass(frozen=True)
class Kept:
    """An answer, and what it cost when it was given."""

    answer: dict[str, Any]
    cost: float


@dataclass(frozen=True)
class Usage:
    """What a call took: tokens, and money in the unit of the line's prices."""

    prompt_tokens: int
    completion_tokens: int
    cost: float


def find(request_sha256: str) -> Kept | None:
    """The answer that is kept for a question."""
    wanted = select(Judgement.answer, Judgement.cost).where(Judgement.request_sha256 == request_sha256)
    with transaction() as session:
        row = session.execute(wanted).one_or_none()
    return None if row is None else Kept(*row)


def spent_today(judge: str) -> float:
    """What the judge's calls of this UTC day cost, reservations at their most."""
    with transaction() as session:
        return float(session.scalar(_spent(judge)) or 0.0)


def reserve(judge: str, most: float, budget: float | None) -> str | None:
    """Set aside what a call costs at most. Returns the reservation's id, or None when the day's budget has no room.

    Reservations for one judge are made one after another, so that several workers stay within one budget.
    """
    reservation = f"call/{uuid.uuid4().hex}"
    with transaction() as session:
        if budget is not None:
            session.execute(text("select pg_advisory_xact_lock(hashtext(:judge))"), {"judge": f"judgements {judge}"})
            if float(session.scalar(_spent(judge)) or 0.0) + most > budget:
                return None
        pending = {"pending": True}
        session.execute(
            insert(Judgement).values(
                request_sha256=reservation,
                judge=judge,
                answer=pending,
                prompt_tokens=0,
                completion_tokens=0,
                cost=most,
            )
        )
    return reservation


def keep(reservation: str, request_sha256: str, judge: str, answer: Mapping[str, Any], usage: Usage) -> None:
    """Keep the answer that a reserved call gave. Where another was quicker, its answer stays and this one's cost."""
    values = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "cost": usage.cost}
    mine = {"request_sha256": request_sha256, "judge": judge, "answer": dict(answer), **values}
    with transaction() as session:
        added = session.scalar(
            insert(Judgement).values(mine).on_conflict_do_nothing().returning(Judgement.request_sha256)
        )
        row = Judgement.request_sha256 == reservation
        if added:
            session.execute(delete(Judgement).where(row))
        else:
            session.execute(update(Judgement).where(row).values(answer={"repeats": request_sha256}, **values))


def refuse(reservation: str, reason: str, usage: Usage) -> None:
    """The reserved call was answered with what nobody can use; its cost stays."""
    values = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "cost": usage.cost}
    with transaction() as session:
        row = Judgement.request_sha256 == reservation
        session.execute(update(Judgement).where(row).values(answer={"refused": reason}, **values))


def give_back(reservation: str) -> None:
    """The reserved call was not made, or was turned down unread: it cost nothing."""
    with transaction() as session:
        session.execute(delete(Judgement).where(Judgement.request_sha256 == reservation))


def erase(session: Session, trajectory_ids: Sequence[str]) -> int:
    """Forget what was said of groups that hold any of these; what it cost stays. Returns how many answers that were.

    To be called before their score rows go, which tell the groups.
    """
    groups = select(Score.compared_in).where(Score.trajectory_id.in_(trajectory_ids))
    erased = session.execute(
        update(Judgement)
        .where(Judgement.request_sha256.in_(groups))
        .values(request_sha256=func.concat("erased/", func.gen_random_uuid()), answer={"erased": True})
        .returning(Judgement.request_sha256)
    )
    return len(erased.all())


def _spent(judge: str) -> Any:
    today = func.date_trunc("day", func.now(), "UTC")
    return select(func.sum(Judgement.cost)).where(Judgement.judge == judge, Judgement.created_at >= today)
