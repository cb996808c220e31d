"""What a run is allowed, what came of it, and how safely it ran."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal

from rl.errors import InvalidInput

Outcome = Literal["ok", "error", "timeout", "memory", "output", "killed"]
"""How a program ended.

``ok``: it ended with status 0. ``error``: it ended with another status, as after an exception. ``timeout``: its wall
time or CPU time ran out. ``memory``: an allocation failed and ended it, or its processes together held too much.
``output``: it wrote more to a stream than is allowed, or left too many or too large files. ``killed``: a signal ended
it, or the launcher that watched over it is gone; nothing that it may have written counts then.
"""
OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "timeout", "memory", "output", "killed")


class Level(StrEnum):
    """How a program is held, the strongest first."""

    BUBBLEWRAP = "bubblewrap"
    """Namespaces, file system and system call filter set up by bubblewrap, before any interpreter runs."""
    NAMESPACES = "namespaces"
    """The same promises, set up by util-linux's ``unshare`` and the launcher itself."""
    RLIMITS = "rlimits"
    """Limits of time, memory and output alone: nothing keeps a program from files, network or other processes."""

    def satisfies(self, minimum: Level) -> bool:
        """Whether this level is as strong as ``minimum``, or stronger."""
        order = list(Level)
        return order.index(self) <= order.index(minimum)


@dataclass(frozen=True)
class Limits:
    """What one program run may use. Each must be positive.

    ``wall_seconds`` holds for the run and all that it starts; ``cpu_seconds`` and ``memory_bytes`` (of address space)
    for each of its processes, which together may hold twice the memory. ``output_bytes`` is of each stream.
    ``file_bytes`` is of one file; each of the two writable folders, the working directory and ``/tmp``, holds four
    times as much. ``processes`` counts threads, and the launcher as one.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 * 1024**2
    output_bytes: int = 1_000_000
    file_bytes: int = 16 * 1024**2
    processes: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) <= 0:
                raise InvalidInput(field.name, value, "a limit of the sandbox is more than 0")

    @property
    def folder_bytes(self) -> int:
        """What each of the writable folders holds."""
        return 4 * self.file_bytes


@dataclass(frozen=True)
class Ran:
    """What came of one run.

    ``status`` is the exit status, or minus the signal's number. ``stdout``, ``stderr`` and ``result`` are cut at
    ``Limits.output_bytes`` and read as UTF-8, with U+FFFD for what is none; ``result`` is None where the program wrote
    nothing to the descriptor. ``seconds`` is the program's wall time, without the launch.
    """

    outcome: Outcome
    status: int
    stdout: str
    stderr: str
    result: str | None
    level: Level
    seconds: float
