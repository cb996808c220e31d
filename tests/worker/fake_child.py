"""A child process without a model: the real protocol on the real descriptors, and a script instead of training.

A command's config holds ``{"script": ["progress", "done", ...]}``; the words are the keys of ``EVENTS`` and ``DEEDS``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO

from rl.protocol import (
    COMMANDS,
    CheckpointWritten,
    Done,
    Failed,
    Line,
    PauseCommand,
    Paused,
    Progress,
    Ready,
    StateSaved,
    StopCommand,
    TrainCommand,
)

EVENTS: dict[str, Callable[[TrainCommand], Line]] = {
    "progress": lambda c: Progress(job=c.job, fence=c.fence, step=1, total=2, metrics={"loss": 0.5}),
    "checkpoint": lambda c: CheckpointWritten(
        job=c.job, fence=c.fence, step=2, path=c.out, kind="adapter", sha256="0" * 64
    ),
    "done": lambda c: Done(job=c.job, fence=c.fence, manifest={"steps": 2}),
    "state": lambda c: StateSaved(job=c.job, fence=c.fence, step=4, path=f"{c.out}/state-4", sha256="1" * 64),
    "paused": lambda c: Paused(job=c.job, fence=c.fence, step=4),
    "disk-full": lambda c: Failed(job=c.job, fence=c.fence, error="DiskFull", message="no room"),
    "out-of-memory": lambda c: Failed(job=c.job, fence=c.fence, error="OutOfMemory", message="12 GiB were wanted"),
    "done-of-an-older-job": lambda c: Done(job=c.job - 1, fence=c.fence, manifest={"steps": 99}),
    "done-of-an-older-fence": lambda c: Done(job=c.job, fence=c.fence - 1, manifest={"steps": 99}),
}


def _die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def _hang() -> bytes:
    signal.pause()
    return b""


def _start_another() -> bytes:
    """A process of the child's own, whose pid the events tell."""
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    return Progress(job=0, fence=0, step=0, total=1, metrics={"pid": other.pid}).line()


DEEDS: dict[str, Callable[[], bytes]] = {
    "die": _die,
    "hang": _hang,
    "start-another": _start_another,
    "say-nonsense": lambda: b"loading weights...\n",
    "say-another-schema": lambda: b'{"schema": 2, "event": "done", "job": 1, "fence": 1}\n',
}


def main() -> None:
    args = _arguments()
    if args.at_start in DEEDS:
        DEEDS[args.at_start]()
    os.write(args.events_fd, Ready(pid=os.getpid(), device=args.device, url="http://127.0.0.1:1").line())
    with os.fdopen(args.commands_fd, "rb") as commands:
        for line in commands:
            command = COMMANDS.validate_json(line)
            if isinstance(command, StopCommand):
                return
            if isinstance(command, TrainCommand):
                _follow(command, commands, args.events_fd)


def _follow(command: TrainCommand, commands: BinaryIO, events: int) -> None:
    script = command.config["script"]
    assert isinstance(script, list)
    for word in script:
        if word == "save-when-paused":
            told = COMMANDS.validate_json(commands.readline())
            assert (type(told), told.job, told.fence) == (PauseCommand, command.job, command.fence)  # type: ignore[union-attr]
            os.write(events, EVENTS["state"](command).line() + EVENTS["paused"](command).line())
            continue
        os.write(events, EVENTS[word](command).line() if word in EVENTS else _in_pieces(events, DEEDS[word]()))


def _in_pieces(events: int, line: bytes) -> bytes:
    """Write all but the last byte, which is returned: a reader must not take half a line for a line."""
    os.write(events, line[:-1])
    return line[-1:]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--commands-fd", type=int, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--at-start", default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
