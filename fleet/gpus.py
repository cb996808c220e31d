"""Devices as the status shows them: whose they are, what is done on them, and how much of their memory is taken."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from db.queues import Held
    from db.workers import Present

SERVE = "serve"
"""What a device does that has no job."""
SMI_SECONDS = 10.0
"""A driver that hangs must not hang who asks."""


def memory() -> dict[str, dict[str, int]]:
    """``used_mib`` and ``total_mib`` of this machine's NVIDIA GPUs, by UUID; nothing where there is no driver."""
    return {
        uuid: {"used_mib": int(used), "total_mib": int(total)}
        for uuid, used, total in ask("uuid,memory.used,memory.total")
        if used.isdigit() and total.isdigit()
    }


def ask(columns: str) -> list[list[str]]:
    """What ``nvidia-smi`` says of each GPU; nothing where it is not there or has no answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    argv = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def shown(workers: Sequence[Present], held: Sequence[Held], uuids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each device of the workers that are there: ``device``, ``worker``, ``doing``, ``uuid`` and ``memory``.

    ``uuids`` has the GPUs of this machine by the names of their devices; ``uuid`` and ``memory`` of those of other
    machines are None.
    """
    taken, found = memory() if uuids else {}, []
    owners = [one for one in workers if one.device]
    for worker in owners:
        doing = _doing(worker, owners, held)
        for device in worker.device.split("+"):
            uuid = uuids.get(device) if is_here(worker) else None
            room = taken.get(uuid) if uuid else None
            found.append({"device": device, "worker": worker.name, "doing": doing, "uuid": uuid, "memory": room})
    return found


def is_here(worker: Present) -> bool:
    """Whether the worker runs on this machine; those of several machines may have the same name before the ``@``."""
    return worker.name.partition("@")[2] == socket.gethostname()


def _doing(worker: Present, owners: Sequence[Present], held: Sequence[Held]) -> str:
    """The job that the worker does, else that it serves: its child keeps the newest model at hand."""
    host = worker.name.partition("@")[2]
    of_host = [one for one in held if one.owner.rpartition(":")[0] == host]
    alone = sum(one.name.partition("@")[2] == host for one in owners) == 1
    if of_host and not alone and not is_here(worker):
        return "not known: several workers of its machine have devices"
    for job in of_host:
        if alone or _parent(int(job.owner.rpartition(":")[2])) == worker.pid:
            return f"{job.kind} job {job.job_id} of line {job.line}" + (f" ({job.stage})" if job.stage else "")
    return SERVE


def _parent(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.Error:
        return None
