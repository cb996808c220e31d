"""Whether what the fleet consists of is there: each asked itself, all at once, none waited for longer than a moment."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from db import engines, released, workers
from db.session import transaction
from db.workers import Present
from rl.errors import BrokerUnavailable
from rl.protocol import QUEUES
from tasks import ring
from tasks.maintain import BEAT

ANSWER_SECONDS = 2.0
DATABASE_SECONDS = 3.0
LEAST_FREE_BYTES = 2**30
ALIVE = (200, 404)
"""What an engine that lives says of ``/health``; some servers have no such page."""
OK = "ok"


@dataclass(frozen=True)
class Broker:
    """``ok``, or what is wrong, and how many messages wait in each queue."""

    status: str
    waiting: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Process:
    """An engine or the gateway: ``ok``, or what is wrong with it."""

    name: str
    url: str
    status: str


@dataclass(frozen=True)
class Disk:
    """The file system that artifacts lie on, or will lie on, in bytes."""

    path: str
    status: str
    free: int
    total: int


@dataclass(frozen=True)
class Found:
    """What answered, and in words what did not. ``disk`` and ``gateway`` are None where they were not looked at."""

    broker: Broker
    workers: list[Present]
    engines: list[Process]
    gateway: Process | None
    disk: Disk | None
    reasons: list[str]


def look(gateway_url: str, artifacts: Path) -> Found:
    """Ask everything.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with transaction(DATABASE_SECONDS) as session:
        known = engines.known(session)
        is_released = any(line.releases for line in released.by_line(session).values())
    present, capacity = workers.listing(), workers.capacity()
    silent = workers.is_beat_silent(*BEAT)
    with ThreadPoolExecutor(max_workers=len(known) + 2) as pool:
        broker = pool.submit(_broker)
        gateway = pool.submit(_process, "gateway", gateway_url, (200,)) if gateway_url else None
        asked = list(pool.map(lambda one: _process(one.name, one.url, ALIVE), known))
    answered = None if gateway is None else gateway.result()
    found = Found(broker.result(), present, asked, answered, _disk(artifacts), [])
    found.reasons.extend(_reasons(found, capacity, is_released=is_released, is_silent=silent))
    return found


def _reasons(found: Found, capacity: Mapping[str, int], *, is_released: bool, is_silent: bool) -> list[str]:
    reasons = [] if found.broker.status == OK else [f"the broker {found.broker.status}"]
    if unserved := [queue for queue in QUEUES if not capacity.get(queue)]:
        reasons.append(f"no worker serves {', '.join(unserved)}")
    if is_silent:
        reasons.append("no beat rings: nothing is planned until one does")
    gone = [one for one in found.engines if one.status != OK]
    if found.engines and len(gone) == len(found.engines):
        reasons.append("no engine answers")
    elif len(found.engines) - len(gone) < sum("gpu" in one.queues for one in found.workers):
        reasons.extend(f"the engine {one.name} {one.status}" for one in gone)
    if is_released and not found.engines:
        reasons.append("a version is released, and no engine has announced itself")
    if found.gateway is not None and found.gateway.status != OK:
        reasons.append(f"the gateway {found.gateway.status}")
    if found.disk is not None and found.disk.status != OK:
        reasons.append(f"the disk of {found.disk.path} {found.disk.status}")
    return reasons


def _broker() -> Broker:
    try:
        return Broker(OK, ring.waiting())
    except BrokerUnavailable:
        return Broker("does not answer")


def _process(name: str, url: str, alive: tuple[int, ...]) -> Process:
    try:
        status = httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS, trust_env=False).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return Process(name, url, "does not answer")
    return Process(name, url, OK if status in alive else f"says that it is not well: {status}")


def _disk(folder: Path) -> Disk | None:
    whole = folder.absolute()
    try:
        usage = shutil.disk_usage(next(one for one in (whole, *whole.parents) if one.exists()))
    except OSError:
        return None
    status = OK if usage.free >= LEAST_FREE_BYTES else f"has {usage.free // 2**20} MiB left"
    return Disk(str(folder), status, usage.free, usage.total)
