"""Following the device's child through one training: its progress renews the lease, and every end has a name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl import errors, memory
from rl.errors import ChildLost, Drained, InvalidInput, OutOfMemory, PermanentError, RlfleetError, TransientError
from rl.protocol import CheckpointWritten, Done, Failed, Paused, Progress, StateSaved, TrainCommand
from worker.drain import draining
from worker.settings import settings

if TYPE_CHECKING:
    from backends import Place
    from tasks.carry import Lease


def supervise(
    child: Place, command: TrainCommand, lease: Lease, about: Mapping[str, Any]
) -> tuple[list[CheckpointWritten], dict[str, Any]]:
    """Have the child carry out ``command``. Returns the checkpoints and the manifest.

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
    return written, dict(last.manifest)


def _follow(
    child: Place, command: TrainCommand, lease: Lease, about: Mapping[str, Any]
) -> tuple[list[CheckpointWritten], Done | Failed]:
    written: list[CheckpointWritten] = []
    moved, progress, resume, pausing = time.monotonic(), None, None, False
    for event in child.train(command):
        now = time.monotonic()
        if event is not None:
            moved = now
        if now - moved > settings().stall_seconds:
            raise ChildLost(f"no progress for {settings().stall_seconds:.0f} s; see {child.log}")
        if isinstance(event, Progress):
            progress = {**about, "step": event.step, "total": event.total, "metrics": event.metrics}
        elif isinstance(event, CheckpointWritten):
            written.append(event)
        elif isinstance(event, StateSaved):
            resume = {"path": event.path, "step": event.step, "sha256": event.sha256}
            lease.renew(progress, resume)
        elif isinstance(event, Paused):
            raise Drained(f"the worker is going down after step {event.step}", resume)
        elif isinstance(event, Done | Failed):
            return written, event
        if draining() and not pausing:
            pausing = True
            child.pause(command)
        lease.keep(progress)
    raise ChildLost(f"the child ended without saying that it was done; see {child.log}")


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
        # The child has tried smaller micro-batches itself, down to one sequence.
        smallest = {**config, "token_budget": memory.SMALLEST_BUDGET}
        return _next_after(OutOfMemory(event.message), smallest, lease)
    return kind(event.message)


def _next_after(error: OutOfMemory, config: Mapping[str, Any], lease: Lease) -> RlfleetError:
    """The error with what the next attempt changes, or a permanent one when nothing is left."""
    claim = lease.claim
    change = memory.smaller(config, claim.config, cuda=settings().device.startswith(("gpu", "cuda")))
    if change is None:
        return PermanentError(f"{error}; no smaller way to train it is left")
    return OutOfMemory(f"{error}; next with {change}", adjust={**(claim.adjust or {}), **change})
