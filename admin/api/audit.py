"""Who asked for what, and who may: for operators alone."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from admin.access import Operator
from admin.api.shapes import PROBLEMS, Before, Limit, following
from db import audit, tokens
from db.audit import Entry
from db.session import transaction
from db.tokens import Role

router = APIRouter(prefix="/api/admin", tags=["audit"], responses=PROBLEMS)


class Entries(BaseModel):
    """A page of the audit, the newest first."""

    entries: list[Entry]
    next: int | None


class Token(BaseModel):
    """Whose token it is, never the token itself; moments are ISO 8601, and ``used_at`` is exact to a minute."""

    token_id: int
    name: str
    role: Role
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None


class Tokens(BaseModel):
    """All tokens there ever were, the newest first."""

    tokens: list[Token]


@router.get("/audit")
def list_audit(_: Operator, limit: Limit = 100, before: Before = None) -> Entries:
    """What was asked for by the API, the pages and the shell, and whether it was done."""
    with transaction() as session:
        found = audit.listing(session, limit, before)
    return Entries(entries=found, next=following([one.entry_id for one in found], limit))


@router.get("/tokens", tags=["tokens"])
def list_tokens(_: Operator) -> Tokens:
    """Who holds a token. They are made and revoked in the shell: `rlfleet token`."""
    with transaction() as session:
        return Tokens(tokens=[Token(**vars(one)) for one in tokens.listing(session)])
