"""What children of devices write down of their lives, and whether two of them ever held one device.

One line an event, appended whole: the seconds since boot, the device, the process, what it does, job and fence.
The clock since boot is one for all processes, and no wall clock that is set wrong can change it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

VARIABLE = "RLFLEET_JOURNAL"
HOLDS_SECONDS = 1.0
"""How often a child says that it holds its device, so that one that does nothing is seen too."""


class Journal:
    """One child's pen."""

    def __init__(self, path: Path, device: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._device = device

    @classmethod
    def open(cls, device: str) -> Self:
        """The journal that the environment names."""
        return cls(Path(os.environ[VARIABLE]), device)

    def note(self, what: str, job: int = 0, fence: int = 0) -> None:
        """Write one line."""
        moment = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.write(self._file, f"{moment:.6f} {self._device} {os.getpid()} {what} {job} {fence}\n".encode())

    @contextmanager
    def held(self, every: float = HOLDS_SECONDS) -> Iterator[None]:
        """Within the block the device is held: it is said at the beginning, every second, and at the end."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(every):
                self.note("holds")

        self.note("start")
        pen = threading.Thread(target=go_on, daemon=True)
        pen.start()
        try:
            yield
        finally:
            over.set()
            pen.join()
            self.note("stop")


@dataclass(frozen=True)
class Life:
    """What the journal knows of one process on one device: from its first line to its last."""

    device: str
    pid: int
    first: float
    last: float


def lives(path: Path) -> list[Life]:
    """Every process that wrote, by device and time. A set of devices joined by ``+`` counts as each of them."""
    moments: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else []:
        moment, devices, pid, *_ = line.split()
        for device in devices.split("+"):
            moments[device, int(pid)].append(float(moment))
    found = [Life(device, pid, min(at), max(at)) for (device, pid), at in moments.items()]
    return sorted(found, key=lambda life: (life.device, life.first))


def shared(path: Path) -> list[tuple[Life, Life]]:
    """Pairs of processes that were seen on one device at the same time."""
    known = lives(path)
    return [
        (one, other)
        for place, one in enumerate(known)
        for other in known[place + 1 :]
        if one.device == other.device and other.first < one.last
    ]
