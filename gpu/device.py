"""One device: whose turn it is, and how its failures are named."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch

from rl.errors import DiskFull, OutOfMemory

NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "_STATUS_ALLOC_FAILED")
"""What the allocators of the CPU and of CUDA's libraries say in a plain RuntimeError."""


class DeviceLock:
    """First come, first served, not reentrant.

    A plain lock lets a trainer that releases and takes again in a loop starve the engine's thread for
    seconds; here release hands the device to whoever has waited longest.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._held = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


@contextlib.contextmanager
def named_failures(doing: str) -> Iterator[None]:
    """Memory and disk exhaustion while ``doing`` something, as errors of ours.

    Raises:
        OutOfMemory: the device or the machine ran out of memory.
        DiskFull: no space was left.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory while {doing}: lower token_budget or serve fewer versions") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left while {doing}: free some and run the job again") from error
        raise
    except RuntimeError as error:
        if any(words in str(error) for words in NO_MEMORY):
            raise OutOfMemory(f"out of memory while {doing}: lower token_budget") from error
        # The file writer of safetensors reports a full disk as a plain error with the system's text.
        if "No space left on device" in str(error):
            raise DiskFull(f"no space left while {doing}: free some and run the job again") from error
        raise


def torch_device(name: str) -> torch.device:
    """The device that the plan calls ``name``; of several joined with ``+`` the first."""
    return torch_devices(name)[0]


def torch_devices(name: str) -> list[torch.device]:
    """The devices that the plan calls ``name``, several joined with ``+``.

    ``cpu`` and torch's own names (``cuda:1``) mean themselves; so do ``cpu0`` and ``cpu1``, shares of one CPU.
    ``gpu<n>`` is the n-th of a plan: its worker sees those of its set alone, through ``CUDA_VISIBLE_DEVICES``, so here
    they are counted from 0.
    """
    return [_torch_device(one, place) for place, one in enumerate(name.split("+"))]


def _torch_device(name: str, place: int) -> torch.device:
    if name.startswith("cpu"):
        return torch.device("cpu")
    return torch.device(f"cuda:{place}" if name.startswith("gpu") else name)


def free_unused(device: torch.device) -> None:
    """Give back what nothing refers to any more; after an error the failed graph hangs on cycles of frames."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def capacity(device: torch.device) -> int:
    """Bytes of memory that the device has, used or not; on a CPU no more than the process may use of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [one for one in (addresses, group_limit()) if one not in (resource.RLIM_INFINITY, None)]
    return min([physical, *limits])


def in_use(device: torch.device) -> int:
    """Bytes of the device's memory that are taken, by whomever; what the allocator keeps in reserve is not.

    0 on a CPU: what a machine's other processes hold changes by the second, and the same training should be planned
    the same way.
    """
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free - (torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def group_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least memory limit, bytes, of our control group and of those that it lies in; None without one."""
    limits: list[int] = []
    for mount, inside, unified in _groups(root, own):
        file = "memory.max" if unified else "memory.limit_in_bytes"
        limits += [limit for one in (inside, *inside.parents) if (limit := _limit(mount / one / file)) is not None]
    return min(limits, default=None)


def kills(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many processes of our control group the kernel has killed for memory so far; None where it does not tell."""
    for mount, inside, unified in _groups(root, own):
        file = "memory.events" if unified else "memory.oom_control"
        for folder in (mount / inside, mount):
            try:
                fields = dict(line.split() for line in (folder / file).read_text().splitlines())
                return int(fields["oom_kill"])
            except (OSError, ValueError, KeyError):  # not here, or a kernel that does not count them
                continue
    return None


def _groups(root: Path, own: Path) -> list[tuple[Path, Path, bool]]:
    """Where each hierarchy that bounds memory is mounted, our group in it, and whether it is the unified one.

    In a container the group's own folder is mounted as the root.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for number, controllers, name in groups:
        unified = number == "0" and not controllers
        if unified or "memory" in controllers.split(","):
            found.append((root if unified else root / "memory", Path(name.lstrip("/")), unified))
    return found


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group here, or its limit is `max`
        return None
