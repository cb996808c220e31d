"""Following the device's child through one training: its progress renews the lease, and every end has a name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.steps import StepFile
from rl import errors, memory
from rl.errors import ChildLost, Drained, InvalidInput, OutOfMemory, PermanentError, RlfleetError, TransientError
from rl.protocol import (
    CheckpointWritten,
    Done,
    Failed,
    Paused,
    Progress,
    Remote,
    RemoteNoted,
    StateSaved,
    TrainCommand,
)
from tasks.curves import Curves
from worker.crash import crash_point
from worker.drain import draining
from worker.settings import settings

if TYPE_CHECKING:
    from backends import Place
    from tasks.carry import Lease


def supervise(
    child: Place, command: TrainCommand, lease: Lease, about: Mapping[str, Any]
) -> tuple[list[CheckpointWritten], dict[str, Any]]:
    """Have the child carry out ``command``. Returns the checkpoints by step and the manifest.

    Checkpoints that an earlier attempt wrote before the state that this one goes on from are among them.

    If that fails, the child is killed: it must not go on with a job that nobody follows.

    Raises:
        Drained: the worker is going down; says where the state was saved.
        OutOfMemory: memory ran out; says what the next attempt changes.
        PermanentError: the child said so, or memory ran out and there is nothing left to change.
        ChildLost: it died, or made no progress for ``RLFLEET_STALL_SECONDS``.
        Fenced, Cancelled: the lease said so.
    """
    try:
        written, last = _follow(child, command, lease, about)
    except OutOfMemory as error:
        child.kill()
        raise _next_after(error, command.config, lease) from error
    except BaseException:
        child.kill()
        raise
    if isinstance(last, Failed):
        raise _named(last, command.config, lease)
    return [written[step] for step in sorted(written)], dict(last.manifest)


def _follow(
    child: Place, command: TrainCommand, lease: Lease, about: Mapping[str, Any]
) -> tuple[dict[int, CheckpointWritten], Done | Failed]:
    written = _carried(command, lease)
    moved, progress, resume, pausing = time.monotonic(), None, None, False
    earlier = (lease.claim.resume or {}) if command.resume or command.remote else {}
    reached = command.remote.steps if command.remote else int(earlier.get("step", 0))
    curves = Curves(earlier.get("curves"), reached)
    steps = StepFile(settings().artifacts.resolve() / "jobs" / str(command.job), command.job, command.fence)
    for event in child.train(command):
        now = time.monotonic()
        if event is not None:
            moved = now
        if now - moved > settings().stall_seconds:
            raise ChildLost(f"no progress for {settings().stall_seconds:.0f} s; see {child.log}")
        if isinstance(event, Progress):
            curves.add(event.step, event.metrics)
            steps.add(event.step, event.total, event.metrics)
            progress = {**about, "step": event.step, "total": event.total, "metrics": event.metrics}
            progress |= {"curves": rows} if (rows := curves.rows()) else {}
        elif isinstance(event, CheckpointWritten):
            written[event.step] = event
        elif isinstance(event, StateSaved):
            resume = _resume(event, written) | ({"curves": rows} if (rows := curves.rows()) else {})
            lease.renew(progress, resume)
        elif isinstance(event, RemoteNoted):
            resume = _noted(event, progress, resume, curves, lease)
        elif isinstance(event, Paused):
            raise Drained(f"the worker is going down after step {event.step}", resume)
        elif isinstance(event, Done | Failed):
            return written, event
        if draining() and not pausing:
            pausing = True
            child.pause(command)
        lease.keep(progress)
    raise ChildLost(f"the child ended without saying that it was done; see {child.log}")


def _noted(
    event: RemoteNoted,
    progress: Mapping[str, Any] | None,
    resume: dict[str, Any] | None,
    curves: Curves,
    lease: Lease,
) -> dict[str, Any] | None:
    """Write down how far a service has come. The child waits for it: what nobody wrote down may be done twice.

    Returns what the next attempt goes on from.
    """
    if event.of is not None and event.remote is not None:
        _settle(event.of, event.remote)
        return resume
    resume = {"remote": event.remote and event.remote.model_dump(mode="json")}
    resume |= {"curves": rows} if (rows := curves.rows()) else {}
    _store(event, progress, resume, lease)
    return resume


def _settle(job_id: int, remote: Remote) -> None:
    from db import at_service
    from db.session import transaction

    with transaction() as session:
        at_service.settle(session, job_id, remote)


def _store(event: RemoteNoted, progress: Mapping[str, Any] | None, resume: dict[str, Any], lease: Lease) -> None:
    if event.phase == "submitted":
        crash_point("after-submit", lease.claim.kind)
    lease.store(progress, resume)
    lease.gets_on = lease.gets_on or event.phase in ("submitted", "polled")
    if event.phase == "intended":
        crash_point("after-intent", lease.claim.kind)
    elif event.phase == "submitted":
        crash_point("after-id", lease.claim.kind)
    elif event.phase == "polled":
        crash_point("polling", lease.claim.kind)


def _resume(state: StateSaved, written: Mapping[int, CheckpointWritten]) -> dict[str, Any]:
    """What the next attempt goes on from, with the checkpoints that it need not write again."""
    resume: dict[str, Any] = {"path": state.path, "step": state.step, "sha256": state.sha256}
    checkpoints = [one.model_dump(mode="json", by_alias=True) for one in written.values()]
    return resume | ({"checkpoints": checkpoints} if checkpoints else {})


def _carried(command: TrainCommand, lease: Lease) -> dict[int, CheckpointWritten]:
    """What earlier attempts wrote before the state that ``command`` goes on from, by step.

    A training that starts from the beginning all the same writes them again, and those count.
    """
    said = (lease.claim.resume or {}).get("checkpoints", []) if command.resume else []
    found = [CheckpointWritten.model_validate(one) for one in said]
    return {one.step: one for one in found if Path(one.path).is_dir()}


def _named(event: Failed, config: Mapping[str, Any], lease: Lease) -> RlfleetError:
    """The child's error by its name; an unknown one is worth another try.

    Wrong input is only permanent here: the parts that ``InvalidInput`` is made of stayed with the child.
    """
    kind = getattr(errors, event.error, None)
    if not (isinstance(kind, type) and issubclass(kind, RlfleetError)):
        return TransientError(f"{event.error}: {event.message}")
    if issubclass(kind, InvalidInput):
        return PermanentError(f"{event.error}: {event.message}")
    if issubclass(kind, OutOfMemory):
        # On one device the child has tried smaller micro-batches itself, down to one sequence.
        tried = {"token_budget": memory.SMALLEST_BUDGET} if int(config.get("devices", 1)) == 1 else {}
        return _next_after(OutOfMemory(event.message), {**config, **tried}, lease)
    return kind(event.message)


def _next_after(error: OutOfMemory, config: Mapping[str, Any], lease: Lease) -> RlfleetError:
    """The error with what the next attempt changes, or a permanent one when nothing is left."""
    claim = lease.claim
    change = memory.smaller(config, claim.config, cuda=settings().device.startswith(("gpu", "cuda")))
    if change is None:
        return PermanentError(f"{error}; no smaller way to train it is left")
    return OutOfMemory(f"{error}; next with {change}", adjust={**(claim.adjust or {}), **change})
