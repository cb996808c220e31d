"""The database and the broker: whether they answer, and are set up as a fleet needs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from fleet import binaries, external
from fleet.binaries import Binary
from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.home import home_path, read_endpoints
from fleet.settings import ServerSettings
from rl.errors import RlfleetError
from rl.perimeter import exposed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

SECONDS = 5.0
ODD_SECONDS, WRONG_SECONDS = 5.0, 60.0
"""How far this machine's clock may be from the database's: leases go by that one, expiries of messages by ours."""


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Those that the variables name, else those of the fleet that runs here, else what would be started."""
    here = ServerSettings.read(environ)
    found = read_endpoints(home_path(environ))
    redis_url = here.redis_url or (found and found.redis_url)
    if url := database_url(environ):
        yield from _database(url)
        yield from _network("database", url, here, environ)
    else:
        yield ok("clock", "not compared: no database is named, and one on this machine has the same")
        yield _program("database", "Postgres", lambda: binaries.find_postgres(here.postgres_bin, here.path))
    if redis_url:
        yield from _broker(redis_url)
        yield from _network("broker", redis_url, here, environ)
    else:
        yield _program("broker", "Valkey", lambda: binaries.find_valkey(here.path))


def database_url(environ: Mapping[str, str]) -> str | None:
    """The database that ``DATABASE_URL`` names, else that of the fleet that runs here; None without either."""
    if named := ServerSettings.read(environ).database_url:
        return named
    found = read_endpoints(home_path(environ))
    return found.database_url if found else None


def read_rows(environ: Mapping[str, str], read: Callable[[Session], T]) -> T | None:
    """What ``read`` finds in the database; None where none of this code's revision answers, as its own check says."""
    from db import migrate
    from db.session import transaction

    if (url := database_url(environ)) is None:
        return None
    os.environ["DATABASE_URL"] = url
    try:
        if not migrate.revision(SECONDS).is_newest:
            return None
        with transaction(SECONDS) as session:
            return read(session)
    except RlfleetError:
        return None


def _network(check: str, url: str, here: ServerSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a stranger on the way could read along; in production that is refused before anything is asked."""
    try:
        said = exposed(url, private=here.private_network, environ=environ)
    except ValueError:  # the check of the server says so
        return
    if said is not None:
        words = "strangers on the network could read along; in production it is refused"
        yield warn(f"{check} network", words, f"{said}; or say RLFLEET_PRIVATE_NETWORK=true (docs/perimeter.md)")


def _program(check: str, name: str, find: Callable[[], Binary]) -> Finding:
    try:
        program = find()
    except RlfleetError as error:
        return fail(check, f"none is named, and there is no {name} to start", str(error))
    return ok(check, f"none is named: `rlfleet up` starts {name} of its own ({program.path})")


def _database(url: str) -> Iterator[Finding]:
    from db import migrate
    from db.clock import now

    try:
        external.check_postgres(url)
        os.environ["DATABASE_URL"] = url
        before = time.time()
        theirs = now(SECONDS)
        after = time.time()
        stand = migrate.revision(SECONDS)
    except RlfleetError as error:
        yield fail("database", _said(error), "start it, or correct DATABASE_URL")
        return
    yield ok("database", "answers")
    if stand.current is None:
        yield warn("schema", "the database has no tables of ours", "`rlfleet up` or `rlfleet migrate` makes them")
    elif stand.is_newest:
        yield ok("schema", f"at the newest revision, {stand.current}")
    else:
        remedy = "`rlfleet migrate`, by the newest code; workers of both may run side by side"
        yield fail("schema", f"at revision {stand.current}, and this code knows {stand.newest}", remedy)
    yield _clock(theirs, before, after)


def _clock(theirs: datetime, before: float, after: float) -> Finding:
    moment = theirs.timestamp()
    off = max(before - moment, moment - after, 0.0)
    words = f"{off:.1f} s from the database's"
    remedy = "let both machines keep time (chrony, systemd-timesyncd): messages expire by this machine's clock"
    if off > WRONG_SECONDS:
        return fail("clock", words, remedy)
    return warn("clock", words, remedy) if off > ODD_SECONDS else ok("clock", words)


def _broker(url: str) -> Iterator[Finding]:
    once = Retry(NoBackoff(), 0)
    try:
        external.check_redis(url)
        with Redis.from_url(
            url, socket_connect_timeout=SECONDS, socket_timeout=SECONDS, retry=once, decode_responses=True
        ) as client:
            memory, kept = client.info("memory"), client.info("persistence")
    except (RlfleetError, RedisError, OSError) as error:
        yield fail("broker", _said(error), "start it, or correct REDIS_URL")
        return
    yield ok("broker", "answers")
    policy = str(memory.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("broker eviction", policy)
    else:
        remedy = "`CONFIG SET maxmemory-policy noeviction`, and in its file: a full broker must refuse, not forget"
        yield fail("broker eviction", f"maxmemory-policy is {policy}: messages may vanish", remedy)
    if kept.get("aof_enabled"):
        yield ok("broker persistence", "appendonly yes")
    else:
        remedy = "`CONFIG SET appendonly yes`, and in its file; without it a restart costs each message a tick"
        yield warn("broker persistence", "appendonly no: a restart forgets the messages that wait", remedy)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, RlfleetError) else type(error).__name__
