"""Engines: where the processes that serve versions are, and which of them spoke up last."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Engine


@dataclass(frozen=True)
class Address:
    """An engine's name and its URL, without a trailing slash."""

    name: str
    url: str


def announce(session: Session, name: str, url: str, device: str, pid: int) -> None:
    """The engine called ``name`` serves at ``url`` now; whatever was known under that name is replaced."""
    values = {"name": name, "url": url.rstrip("/"), "device": device, "pid": pid, "seen_at": func.now()}
    statement = insert(Engine).values(values)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def known(session: Session, limit: int = 3) -> list[Address]:
    """At most ``limit`` engines, the one announced last first."""
    query = select(Engine.name, Engine.url).order_by(Engine.seen_at.desc(), Engine.name).limit(limit)
    return [Address(name=row.name, url=row.url) for row in session.execute(query)]
