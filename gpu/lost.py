"""Why a training over several processes ended: the one reason among what all of them say, and how each exited."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from gpu.device import kills
from rl import errors
from rl.errors import ChildLost, OutOfMemory, PermanentError, RlfleetError
from rl.protocol import Failed

__all__ = ["End", "kills", "reason"]

PEERS = (
    "gloo",
    "NCCL",
    "DistBackendError",
    "DistNetworkError",
    "DistStoreError",
    "Connection reset",
    "Connection closed",
    "Broken pipe",
)
"""What collectives say when another process is gone or does not answer in time."""


@dataclass(frozen=True)
class End:
    """What became of one process: what it said, and its exit code, None while it runs."""

    place: int
    device: str
    failed: Failed | None
    code: int | None


def reason(ends: Sequence[End], kills_before: int | None) -> tuple[RlfleetError, bool]:
    """Why the training ended, and whether that is certainly the cause: others may be about to say more.

    An error with a name of ours comes first, then a process that was killed, then whatever else went wrong. Where the
    kernel has killed more processes for memory than ``kills_before``, a killed one had none left.
    """
    named = [one.failed for one in ends if one.failed and one.failed.error != PermanentError.__name__]
    if named:
        return _named(named[0]), True
    killed = [one for one in ends if one.code is not None and one.code < 0]
    if killed:
        return _killed(killed[0], len(ends), kills_before), True
    other = [one.failed for one in ends if one.failed and not _of_peers(one.failed)]
    if other:
        return _named(other[0]), True
    exited = [one for one in ends if one.code]
    if exited:
        return ChildLost(f"{_process(exited[0], len(ends))} exited with {exited[0].code}; see the child's log"), True
    said = next((one.failed.message for one in ends if one.failed), "it said nothing")
    return ChildLost(f"the {len(ends)} processes of the training lost each other: {said}"), False


def _named(failed: Failed) -> RlfleetError:
    """The error that a process has said, with its words."""
    kind = getattr(errors, failed.error, PermanentError)
    error: RlfleetError = kind.__new__(kind)
    RlfleetError.__init__(error, failed.message)
    return error


def _killed(one: End, world: int, before: int | None) -> RlfleetError:
    after, number = kills(), -(one.code or 0)
    if number == signal.SIGKILL and before is not None and after is not None and after > before:
        return OutOfMemory(f"the kernel killed {_process(one, world)} because the machine's memory ran out")
    return ChildLost(f"{_process(one, world)} was killed by {signal.Signals(number).name}; see the child's log")


def _of_peers(failed: Failed) -> bool:
    return any(words in failed.message for words in PEERS)


def _process(one: End, world: int) -> str:
    return f"process {one.place + 1} of {world} ({one.device})"
