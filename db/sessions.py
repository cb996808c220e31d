"""Browsers that are signed in. A cookie holds a random value and never the token; only hashes are stored."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import tokens
from db.tokens import NOBODYS, Holder, hashed

HOURS: Final = 12
"""A working day: whoever leaves a browser open is asked again on the next."""
SHAPE = re.compile(r"rls_([1-9][0-9]{0,17})_([A-Za-z0-9_-]{43})")
"""``rls_<id>_<256 random bits in base64url>``."""


def start(session: Session, token_id: int) -> str:
    """Sign a browser in for whoever holds the token: what its cookie is to hold. It ends no later than the token."""
    secret = secrets.token_urlsafe(32)
    made = session.execute(
        text("""
            insert into rlfleet.sessions (token_id, sha256, expires_at)
            select id, :hash, least(expires_at, now() + make_interval(hours => :hours))
              from rlfleet.tokens where id = :token_id
            returning id
        """),
        {"token_id": token_id, "hash": hashed(secret), "hours": HOURS},
    ).scalar_one()
    return f"rls_{made}_{secret}"


def holder_of(session: Session, value: str) -> Holder | None:
    """For whom a browser with this value is signed in; None if for nobody, or if the session or its token is over.

    What is given is compared in constant time with what is stored, and with something in any case.
    """
    row = _shown(session, value)
    return None if row is None or row.is_over else tokens.holder_by_id(session, row.token_id)


def ended(session: Session, value: str) -> int | None:
    """The id of the token of a session that was somebody's and is over; None for any other."""
    row = _shown(session, value)
    return int(row.token_id) if row is not None and row.is_over else None


def end(session: Session, value: str) -> bool:
    """Sign the browser with this value out. Whether it was signed in."""
    row = _shown(session, value)
    if row is None or row.is_over:
        return False
    session.execute(text("update rlfleet.sessions set expires_at = now() where id = :id"), {"id": row.id})
    return True


def _shown(session: Session, value: str) -> Row[Any] | None:
    """The row of the session, if it is one; its time, or that of its token, may be over."""
    shape = SHAPE.fullmatch(value)
    row = session.execute(
        text("""
            select s.id, s.token_id, s.sha256, s.expires_at <= now() or t.revoked_at is not null
                   or coalesce(t.expires_at <= now(), false) as is_over
              from rlfleet.sessions s join rlfleet.tokens t on t.id = s.token_id
             where s.id = :id
        """),
        {"id": int(shape[1]) if shape else 0},
    ).one_or_none()
    fits = hmac.compare_digest(hashed(shape[2] if shape else value), row.sha256 if row else NOBODYS)
    return row if fits else None
