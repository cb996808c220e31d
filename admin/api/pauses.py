"""Kinds of jobs that are not started until a person resumes them."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.jobs import Kind
from admin.api.shapes import PROBLEMS, Body, Reason
from db import pauses
from db.pauses import Paused
from tasks import ring

router = APIRouter(prefix="/api/admin/pauses", tags=["pauses"], responses=PROBLEMS)


class Pauses(BaseModel):
    """The kinds that are paused now, by name."""

    pauses: list[Paused]


class Why(Body):
    """Why it is paused."""

    reason: Reason


class KindChanged(BaseModel):
    """Whether the kind is paused; ``changed`` is false where it was so before."""

    success: Literal[True] = True
    kind: Kind
    paused: bool
    changed: bool
    remark: str = ""


@router.get("")
def list_pauses(_: Viewer) -> Pauses:
    """What is paused, since when, and why."""
    return Pauses(pauses=pauses.paused())


@router.post("/{kind}/pause")
def pause(kind: Kind, body: Why, caller: Operator) -> KindChanged:
    """Start no more jobs of the kind until it is resumed. Running ones go on."""
    with acting(caller, "pause", kind, reason=body.reason) as session:
        changed = pauses.pause(kind, body.reason, session)
    return KindChanged(kind=kind, paused=True, changed=changed)


@router.post("/{kind}/resume")
def resume(kind: Kind, caller: Operator) -> KindChanged:
    """Start jobs of the kind again. Dead ones stay dead: requeue them when their cause is gone."""
    with acting(caller, "resume", kind) as session:
        changed = pauses.resume(kind, session)
    return KindChanged(kind=kind, paused=False, changed=changed, remark=ring.ring_or_later())
