"""Engines: where the processes that serve versions are, and which of them spoke up last."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Engine

LOOPBACK = r"^https?://(127\.|localhost([:/]|$)|\[::1\])"
"""URLs that lead to whoever asks."""


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
    """At most ``limit`` engines, the one announced last first, wherever they are."""
    return _newest(session, limit, true())


def reachable(session: Session, limit: int = 3) -> list[Address]:
    """``known``, but for the engines of workers on other hosts that listen on the loopback there.

    A worker's engine is called ``HOST/DEVICE``; a name without a slash is a person's, whose URL holds on any host. What
    breaks without this: prompts, and the engines' key, go to whoever listens on that port of this host.
    """
    here = Engine.name.startswith(f"{socket.gethostname()}/", autoescape=True)
    return _newest(session, limit, here | ~Engine.name.contains("/") | ~Engine.url.regexp_match(LOOPBACK))


def _newest(session: Session, limit: int, which: ColumnElement[bool]) -> list[Address]:
    query = select(Engine.name, Engine.url).where(which).order_by(Engine.seen_at.desc(), Engine.name).limit(limit)
    return [Address(name=row.name, url=row.url) for row in session.execute(query)]
