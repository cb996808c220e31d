"""Bearer tokens of the admin API. Only hashes are stored: a token is shown once, when it is made."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from rl.errors import InvalidInput
from rl.records import utc

Role = Literal["viewer", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHAPE = re.compile(r"rlf_([1-9][0-9]{0,17})_([A-Za-z0-9_-]{43})")
"""``rlf_<id>_<256 random bits in base64url>``: secret scanners can look for it."""
NOBODYS = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Holder:
    """Whose token it is. Moments are ISO 8601."""

    token_id: int
    name: str
    role: Role
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None

    def may(self, role: Role) -> bool:
        """Whether the holder has ``role`` or more."""
        return ROLES.index(self.role) >= ROLES.index(role)


COLUMNS = "id, name, role, created_by, created_at, expires_at, revoked_at, used_at"


def create(session: Session, name: str, role: Role, created_by: str, expires_at: datetime | None = None) -> str:
    """A new token for ``name``; this is the only time that it can be seen.

    Raises:
        InvalidInput: the name or role cannot be used, somebody has that name, or the token would have expired already.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidInput("name", name, "1 to 64 letters, digits and . _ @ -, a letter or digit first")
    if role not in ROLES:
        raise InvalidInput("role", role, f"one of {', '.join(ROLES)}")
    if expires_at is not None and expires_at <= session.execute(text("select now()")).scalar_one():
        raise InvalidInput("expires_at", utc(expires_at), "a moment in the future")
    secret = secrets.token_urlsafe(32)
    values = {"name": name, "role": role, "hash": hashed(secret), "by": created_by, "expires": expires_at}
    try:
        with session.begin_nested():
            made = session.execute(
                text("""
                    insert into rlfleet.tokens (name, role, sha256, created_by, expires_at)
                    values (:name, :role, :hash, :by, :expires) returning id
                """),
                values,
            ).scalar_one()
    except IntegrityError:
        raise InvalidInput("name", name, f"it has a token: `rlfleet token revoke {name}`, or another name") from None
    return f"rlf_{made}_{secret}"


def holder_of(session: Session, token: str) -> Holder | None:
    """Whose the token is; None if nobody's, or if it was revoked or has expired.

    What is given is compared in constant time with what is stored, and with something in any case.
    """
    row = _shown(session, token)
    return None if row is None else _in_use(session, row)


def ended(session: Session, token: str) -> int | None:
    """The id of a token that was somebody's, and was revoked or has expired; None for any other."""
    row = _shown(session, token)
    return int(row.id) if row is not None and row.is_over else None


def holder_by_id(session: Session, token_id: int) -> Holder | None:
    """Whose the token with that id is; None if there is none, or if it was revoked or has expired."""
    row = _row(session, token_id)
    return None if row is None else _in_use(session, row)


def revoke(session: Session, name: str) -> bool:
    """End the token of ``name``. Whether there was one."""
    ended = session.execute(
        text("update rlfleet.tokens set revoked_at = now() where name = :name and revoked_at is null returning id"),
        {"name": name},
    )
    return ended.one_or_none() is not None


def listing(session: Session) -> list[Holder]:
    """All tokens there ever were, the newest first."""
    rows = session.execute(text(f"select {COLUMNS} from rlfleet.tokens order by id desc"))  # noqa: S608 (of a constant)
    return [_holder(row) for row in rows]


def can_let_in(session: Session) -> bool:
    """Whether the login of ``DATABASE_URL`` may look a token up, and note that it was used."""
    statement = """
        select has_table_privilege('rlfleet.tokens', 'select') and has_table_privilege('rlfleet.tokens', 'update')
    """
    return bool(session.scalar(text(statement)))


def hashed(secret: str) -> str:
    """What is stored of a secret. Any text has a hash, halves of pairs included."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(session: Session, token: str) -> Row[Any] | None:
    """The row of the token, if it is one; its time may be over."""
    shape = SHAPE.fullmatch(token)
    row = _row(session, int(shape[1]) if shape else 0)
    fits = hmac.compare_digest(hashed(shape[2] if shape else token), row.sha256 if row else NOBODYS)
    return row if fits else None


def _row(session: Session, token_id: int) -> Row[Any] | None:
    return session.execute(
        text(f"""
            select {COLUMNS}, sha256, revoked_at is not null or coalesce(expires_at <= now(), false) as is_over,
                   used_at is null or used_at < now() - interval '1 minute' as stale
              from rlfleet.tokens where id = :id
        """),  # noqa: S608 (of a constant)
        {"id": token_id},
    ).one_or_none()


def _in_use(session: Session, row: Row[Any]) -> Holder | None:
    if row.is_over:
        return None
    if row.stale:
        session.execute(text("update rlfleet.tokens set used_at = now() where id = :id"), {"id": row.id})
    return _holder(row)


def _holder(row: Row[Any]) -> Holder:
    token_id, name, role, created_by, created_at, *others = tuple(row)[:8]
    return Holder(int(token_id), name, role, created_by, utc(created_at), *(_utc(moment) for moment in others))


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else utc(moment)
