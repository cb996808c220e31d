"""One device: whose turn it is, and how its failures are named."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType

import torch

from rl.errors import DiskFull, OutOfMemory


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
        if "can't allocate memory" in str(error):
            raise OutOfMemory(f"out of memory while {doing}: lower token_budget") from error
        # The file writer of safetensors reports a full disk as a plain error with the system's text.
        if "No space left on device" in str(error):
            raise DiskFull(f"no space left while {doing}: free some and run the job again") from error
        raise


def torch_device(name: str) -> torch.device:
    """The device that the plan calls ``name``.

    ``cpu`` and torch's own names (``cuda:1``) mean themselves. ``gpu<n>`` is the n-th of a plan: its worker sees
    that one alone, through ``CUDA_VISIBLE_DEVICES``, so here it is the first.
    """
    return torch.device("cuda:0" if name.startswith("gpu") else name)
