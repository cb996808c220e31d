"""The whole fleet in one object: processes, queues, devices, what is live, and why it is not healthy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from fleet import gpus, standing, valkey
from fleet.home import Endpoints, holder, home_path, read_endpoints
from fleet.process import Status
from fleet.process_states import Known, read_states
from fleet.standing import Reason
from rl.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from db.queues import Queue
    from db.workers import Present

SECONDS = 4.0
"""For the answers of a database or broker that may be away."""
NO_FLEET = (
    "no fleet runs here: `rlfleet up --detach` starts one; DATABASE_URL and REDIS_URL name one that runs elsewhere"
)
STALE = "of this shell names a fleet that is no more: open another shell, or unset it"
NO_WORKER = (
    "no worker has announced itself in this database: start workers (docs/operations.md), or unset DATABASE_URL "
    "to look at the fleet of this machine"
)


@dataclass
class Summary:
    """What `rlfleet status` says. ``process_reasons`` are about what is to run, ``reasons`` about the rest.

    ``has_rows`` is whether the database was there to be asked.
    """

    is_there: bool = False
    has_rows: bool = False
    processes: list[dict[str, Any]] = field(default_factory=list)
    queues: list[dict[str, Any]] = field(default_factory=list)
    gpus: list[dict[str, Any]] = field(default_factory=list)
    stable: dict[str, dict[str, Any]] = field(default_factory=dict)
    canary: dict[str, dict[str, Any]] = field(default_factory=dict)
    urls: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(("admin", "gateway", "flower")))
    process_reasons: list[Reason] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def status(self) -> str:
        """``stopped``, ``starting`` for as long as anything is, ``degraded`` or ``healthy``."""
        if not self.is_there:
            return "stopped"
        if any(one.level == "starting" for one in self.process_reasons):
            return "starting"
        return "degraded" if self.process_reasons or self.reasons else "healthy"

    @property
    def is_up(self) -> bool:
        """Whether every process is up, however the work goes."""
        return self.is_there and self.has_rows and all(one.level == "working" for one in self.process_reasons)

    def shown(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {
            "schema": 1,
            "status": self.status,
            "processes": self.processes,
            "queues": self.queues,
            "gpus": self.gpus,
            "stable": self.stable,
            "canary": self.canary,
            "urls": self.urls,
            "reasons": [one.words for one in (*self.process_reasons, *self.reasons)],
        }


def read(environ: Mapping[str, str]) -> Summary:
    """The fleet of this environment's home; that of ``DATABASE_URL``, where this names another one.

    This process uses its servers from then on.
    """
    supervisor, endpoints = holder(environ), read_endpoints(home_path(environ))
    given = environ.get("DATABASE_URL")
    if not given or (supervisor is not None and (endpoints is None or endpoints.database_url == given)):
        return here(environ)
    if not (stale := _stale(environ, endpoints)):
        return _remote(environ)
    found = here(environ)
    found.reasons += [Reason("degraded", f"{name} {STALE}") for name in stale]
    return found


def _stale(environ: Mapping[str, str], endpoints: Endpoints | None) -> list[str]:
    """Variables with the URL of a server of this home that does not run; `rlfleet env` once printed them."""
    now = {"DATABASE_URL": endpoints and endpoints.database_url, "REDIS_URL": endpoints and endpoints.redis_url}
    files = {"DATABASE_URL": "postgres.password", "REDIS_URL": "valkey.password"}
    home = home_path(environ)
    found = []
    for name, file in files.items():
        given = environ.get(name)
        if given and given != now[name] and (home / file).is_file() and (home / file).read_text() in given:
            found.append(name)
    return found


def here(environ: Mapping[str, str]) -> Summary:
    """The fleet of this environment's home."""
    path = home_path(environ)
    supervisor, endpoints = holder(environ), read_endpoints(path)
    if supervisor is None:
        return Summary(reasons=[Reason("degraded", NO_FLEET)])
    known = read_states(path, supervisor) or Known(supervisor, "starting", [], {})
    found = Summary(is_there=True, processes=[_shown(one) for one in known.processes])
    found.process_reasons += standing.of_processes(known, path / "logs")
    if endpoints is not None:
        found.urls = {"admin": endpoints.admin_url, "gateway": endpoints.gateway_url, "flower": endpoints.flower_url}
        os.environ.update(DATABASE_URL=endpoints.database_url, REDIS_URL=endpoints.redis_url)
        workers = _fill(found, known.devices)
        if found.has_rows and known.phase == "up":
            found.process_reasons += standing.of_workers(known, workers, path / "logs")
        if known.phase == "up":
            work = _work(found.gpus)
            found.process_reasons += standing.of_pages(
                known, endpoints, path / "logs", has_rows=found.has_rows, work=work
            )
        if known.phase == "stopping":
            found.reasons.clear()  # who takes a job or answers next is of the next start
    return found


def _work(devices: Iterable[Mapping[str, Any]]) -> str:
    """What the devices do, if none of them only serves."""
    doing = [str(one["doing"]) for one in devices]
    return "" if gpus.SERVE in doing else ", ".join(doing)


def _remote(environ: Mapping[str, str]) -> Summary:
    found = Summary(is_there=True)
    for name in ("gateway", "flower"):
        found.urls[name] = environ.get(f"RLFLEET_{name.upper()}_URL") or None
    workers = _fill(found, {})
    found.processes = [
        {"name": one.name, "pid": one.pid, "state": "running" if one.silent_seconds < 60 else "lost", "restarts": None}
        for one in workers
    ]
    found.process_reasons += standing.of_remote(workers)
    found.reasons += [*standing.of_remote_pages(found.urls), *_of_beats(workers)]
    if found.has_rows and not workers:
        found.is_there = False
        found.reasons.insert(0, Reason("degraded", NO_WORKER))
    return found


def _shown(one: Status) -> dict[str, Any]:
    return {"name": one.name, "pid": one.pid, "state": one.state.value, "restarts": one.restarts}


def _fill(found: Summary, uuids: Mapping[str, str]) -> list[Present]:
    """Add what the rows and the broker say; the workers that announced themselves."""
    from db import queues, status, workers
    from db.session import transaction

    found.reasons += _of_broker(os.environ.get("REDIS_URL", ""))
    try:
        with transaction(SECONDS) as session:
            waiting, held = queues.listing(session), queues.held(session, "gpu")
        present, lines = workers.listing(), status.lines()
        found.reasons += [*_of_queues(waiting), *_of_jobs()]
    except DatabaseUnavailable as error:
        found.reasons.append(Reason("degraded", f"{error}: start it, or correct DATABASE_URL"))
        return []
    found.has_rows = True
    found.queues = [vars(one) for one in waiting]
    found.gpus = gpus.shown(present, held, uuids)
    for one in lines:
        found.reasons += _of_controls(one)
        if one["stable"]:
            found.stable[one["line"]] = {"version": one["stable"], "share": one["share"]}
        if one["canary"]:
            found.canary[one["line"]] = {"version": one["canary"], "share": one["canary_share"]}
    return present


def _of_broker(url: str) -> Iterator[Reason]:
    if not url:
        yield Reason("degraded", "REDIS_URL is not set: whether messages are delivered is not known")
        return
    try:
        valkey.ping(url, SECONDS)
    except (OSError, ValueError, RedisError):
        remedy = "start it, or correct REDIS_URL; jobs wait in the database meanwhile"
        yield Reason("degraded", f"the broker does not answer, so that nothing is begun: {remedy}")


def _of_beats(workers: Iterable[Present]) -> Iterator[Reason]:
    """Of beats elsewhere nothing is known but the ticks that came."""
    from db.workers import is_beat_silent
    from tasks.maintain import BEAT

    if any(workers) and is_beat_silent(*BEAT):
        yield Reason("degraded", "no beat was heard for minutes: start one, or see why it ended in its log")


def _of_controls(line: Mapping[str, Any]) -> Iterator[Reason]:
    """What a person has set, and may have forgotten."""
    name = line["line"]
    if line["killed"]:
        back = f"`rlfleet kill --off --line {name} --reason TEXT`"
        yield Reason("degraded", f"line {name} is killed, so that the base model answers: {back}")
    if line["pinned"]:
        back = f"`rlfleet pin --clear --line {name} --reason TEXT`"
        yield Reason("degraded", f"line {name} is pinned to {line['pinned']}: {back}")


def _of_queues(queues: Iterable[Queue]) -> Iterator[Reason]:
    from tasks.settings import alert_settings

    most = alert_settings().queue_seconds
    for one in queues:
        if one.depth and not one.capacity:
            words = f"{one.depth} jobs are due in queue {one.name} and no worker serves it"
            yield Reason("degraded", f"{words}: start one, or see why it ended in its log")
        elif one.oldest_seconds is not None and one.oldest_seconds > most:
            words = f"a job in queue {one.name} has been due for {one.oldest_seconds:.0f} s"
            yield Reason("degraded", f"{words}: start more workers of it, or see what they do: `rlfleet jobs list`")


def _of_jobs() -> Iterator[Reason]:
    from db import job_views, pauses

    counts = job_views.counts()
    for state, verb in (("failed", "failed"), ("dead", "died after all their attempts")):
        if counts[state]:
            remedy = f"`rlfleet jobs list --state {state}` says why; `rlfleet jobs requeue N` tries one again, "
            yield Reason("degraded", f"{counts[state]} jobs {verb}: {remedy}`rlfleet jobs cancel N` puts it aside")
    for one in pauses.paused():
        words = f"{one.kind} jobs are paused since {one.since} ({one.reason})"
        yield Reason("degraded", f"{words}: `rlfleet jobs resume {one.kind}`")
