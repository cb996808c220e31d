"""Whether the processes of a fleet are up, and what a person would do about those that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleet.gpus import is_here
from fleet.home import Endpoints, is_alive
from fleet.probes import Said, ask
from fleet.process import State, Status
from fleet.process_states import Known

if TYPE_CHECKING:
    from db.workers import Present

Level = Literal["starting", "degraded", "working"]
"""``working``: everything runs, and a device has other work."""
PRESENT_SECONDS = 60.0
"""A worker that was not heard of for so long is not there; each says so every 15 s."""
START_SECONDS = 120.0
"""What a process may take after its first start until it answers."""
ENGINE_SECONDS = 300.0
"""What loading the first model may take."""
WORKER = "worker-"
PAGES = {"gateway": "/health", "admin": "/ready", "flower": "/healthcheck"}
"""Where each server says whether it is well."""
ASK_DATABASE = {"gateway", "admin"}
"""Servers whose page asks the database first."""


@dataclass(frozen=True)
class Reason:
    """Why a fleet is not healthy, in a sentence that ends with the remedy."""

    level: Level
    words: str


def of_processes(known: Known, logs: Path) -> Iterator[Reason]:
    """What the supervisor knows: whether it is there itself, the phase, and processes that do not run."""
    if not is_alive(known.pid):
        words = f"the supervisor (pid {known.pid}) is gone, and what it has started ends"
        yield Reason("degraded", f"{words}: wait for `rlfleet status` to say stopped, then `rlfleet up --detach`")
    if known.phase == "starting":
        yield Reason("starting", "the fleet is being started: ask again in a few seconds")
    if known.phase == "stopping":
        yield Reason("degraded", "the fleet is being stopped: wait for `rlfleet down` to end")
        return
    for one in known.processes:
        log = logs / f"{one.name}.log"
        if one.state is State.WAITING:
            yield Reason("degraded", f"{one.name} ended and is started again: see the end of {log}")
        elif one.state is State.STOPPED:
            yield Reason("degraded", f"{one.name} is stopped: `rlfleet down`, then `rlfleet up --detach`")
        elif one.state is State.STARTING and known.phase != "starting":
            yield Reason(_patience(one, START_SECONDS), f"{one.name} is not ready yet: wait, or see {log}")


def of_workers(known: Known, workers: Iterable[Present], logs: Path) -> Iterator[Reason]:
    """Workers that run and have not announced themselves in the database, or fell silent."""
    silent = {one.name.partition("@")[0]: one.silent_seconds for one in workers if is_here(one)}
    for one in known.processes:
        name = one.name.removeprefix(WORKER)
        if one.name.startswith(WORKER) and one.state is State.RUNNING and not _is_there(silent.get(name)):
            words = "has not announced itself" if name not in silent else f"was last heard of {silent[name]:.0f} s ago"
            yield Reason(_patience(one, START_SECONDS), f"{one.name} {words}: wait, or see {logs / one.name}.log")


def of_pages(
    known: Known,
    endpoints: Endpoints,
    logs: Path,
    look: Callable[[str], Said] = ask,
    *,
    has_rows: bool = True,
    work: str = "",
) -> Iterator[Reason]:
    """Servers of ours whose health page does not say yes.

    Without ``has_rows`` those that ask the database are left out: they would be waited for, and say that it is away.
    ``work`` is what every device does, if none of them only serves.
    """
    running = {one.name: one for one in known.processes if one.state is State.RUNNING}
    urls = {"gateway": endpoints.gateway_url, "admin": endpoints.admin_url, "flower": endpoints.flower_url}
    for name, page in PAGES.items():
        url = urls[name]
        if name not in running or url is None or (name in ASK_DATABASE and not has_rows):
            continue
        said = look(f"{url}{page}")
        if said.status == 0:
            remedy = f"wait, or see {logs / name}.log"
            yield Reason(_patience(running[name], START_SECONDS), f"{name} does not answer at {url}: {remedy}")
        elif said.status != 200:
            yield _unwell(name, said, known, running[name], logs, work)


def of_remote_pages(urls: Mapping[str, str | None], look: Callable[[str], Said] = ask) -> Iterator[Reason]:
    """Servers that other machines supervise, as far as their addresses are known here."""
    for name, page in PAGES.items():
        if url := urls[name]:
            status = look(f"{url.rstrip('/')}{page}").status
            if status != 200:
                words = f"{name} at {url} " + (f"answers {status}" if status else "does not answer")
                yield Reason("degraded", f"{words}: look at it, or correct RLFLEET_{name.upper()}_URL")


def of_remote(workers: Iterable[Present]) -> Iterator[Reason]:
    """The workers of a fleet whose processes other machines supervise."""
    for one in workers:
        if not _is_there(one.silent_seconds):
            words = f"worker {one.name} was last heard of {one.silent_seconds:.0f} s ago"
            yield Reason("degraded", f"{words}: look at its machine; an hour after its last word it is forgotten")


def _unwell(name: str, said: Said, known: Known, process: Status, logs: Path, work: str) -> Reason:
    if name != "gateway":
        why = said.body.get("reason") or f"answers {said.status}"
        return Reason(_patience(process, START_SECONDS), f"{name}: {why}: see {logs / name}.log")
    engine = str(said.body.get("engine", ""))
    if engine in ("", "ok"):
        lines = said.body.get("lines") or {}
        why = next((f"line {one}: {about['why']}" for one, about in lines.items() if about.get("why")), "")
        why = why or f"database {said.body.get('database', 'unknown')}"
        return Reason("degraded", f"the gateway cannot answer ({why}): see `rlfleet releases` and {logs / name}.log")
    gpu = [one for one in known.processes if one.name.startswith(f"{WORKER}gpu")]
    # With work, the child loads no longer than any process starts; what lasts longer is the work's.
    levels = {_patience(one, START_SECONDS if work else ENGINE_SECONDS) for one in gpu}
    level: Level = "starting" if "starting" in levels else "working" if work else "degraded"
    remedy = f"wait for it, or see the child-*.log in {logs}; UPSTREAM_BASE_URL names who answers meanwhile"
    return Reason(level, f"no engine answers ({engine}){work and f' while there is {work}'}: {remedy}")


def _is_there(silent_seconds: float | None) -> bool:
    return silent_seconds is not None and silent_seconds <= PRESENT_SECONDS


def _patience(one: Status, seconds: float) -> Level:
    """A process that was started lately, for the first time, is starting; any other has failed."""
    young = one.restarts == 0 and (datetime.now(UTC) - one.since).total_seconds() < seconds
    return "starting" if young else "degraded"
