"""A device's child without a model: the real protocol, lock and death with the parent, and sleep instead of training.

It runs in place of ``gpu.child`` (``RLFLEET_CHILD``), with the same command line. A training of n steps writes one
small checkpoint that follows from its dataset and config alone. What goes wrong is said by the dataset: a group's
scenario may hold words joined by ``,``, each ``WORD`` or ``WORD@n``, which holds up to fence n only:

    exit        dies by SIGKILL in the middle of the training        oom         says OutOfMemory
    partial     dies with half of a checkpoint written               diverged    says TrainingDiverged
    hang        makes no step any more                               broken      dies as after an error of the device
    full        finds no room for its checkpoint                     slow        takes four times as long

Every life of a child is written to the journal (``RLFLEET_JOURNAL``), from which nobody but the invariants reads.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.faults.journal import Journal
from gpu.child import Commands, Events, die_with
from gpu.locks import lock_device
from rl.errors import DiskFull, OutOfMemory, PermanentError, RlfleetError, StartError, TrainingDiverged
from rl.protocol import (
    COMMANDS,
    CheckpointWritten,
    Done,
    Failed,
    Paused,
    Progress,
    Ready,
    StateSaved,
    TrainCommand,
)


class Training:
    """One command, from its first step to its checkpoint."""

    def __init__(self, command: TrainCommand, commands: Commands, events: Events, journal: Journal) -> None:
        self.command, self.commands, self.events, self.journal = command, commands, events, journal
        self.total = int(str(command.config["steps"]))
        self.behaviour = _behaviour(command)
        self.ids = {"job": command.job, "fence": command.fence}
        self._saved = time.monotonic()

    def run(self) -> None:
        """Make the steps that are left. Ends early, without a checkpoint, when it is paused or told to stop."""
        first = resumed_step(self.command)
        for step in range(first + 1, self.total + 1):
            if self.commands.stopping:
                return
            if self.commands.pausing(**self.ids):
                self._pause(step - 1)
                return
            if step == (self.total + 1) // 2:
                self._go_wrong()
            self._step(step)
        checkpoint = write_folder(Path(self.command.out) / "checkpoint", self._content(), self.behaviour)
        self.events.emit(
            CheckpointWritten(
                step=self.total, path=str(checkpoint), kind="adapter", sha256=sha256(checkpoint), **self.ids
            )
        )
        self.events.emit(Done(manifest={"steps": self.total, "resumed": {"step": first}}, **self.ids))

    def _step(self, step: int) -> None:
        time.sleep(_step_seconds() * (4 if "slow" in self.behaviour else 1))
        self.journal.note("step", self.command.job, self.command.fence)
        self.events.emit(Progress(step=step, total=self.total, metrics={"loss": 1 / step}, **self.ids))
        if 0 < self.command.save_seconds < time.monotonic() - self._saved:
            self._save(step)

    def _pause(self, step: int) -> None:
        if step:
            self._save(step)
        self.events.emit(Paused(step=step, **self.ids))

    def _save(self, step: int) -> None:
        path = write_folder(Path(self.command.out) / f"state-{step}", json.dumps({"step": step}), frozenset())
        self._saved = time.monotonic()
        self.events.emit(StateSaved(step=step, path=str(path), sha256=sha256(path), **self.ids))

    def _content(self) -> str:
        dataset = hashlib.sha256(Path(self.command.dataset).read_bytes()).hexdigest()
        return json.dumps({"dataset": dataset, "config": self.command.config}, sort_keys=True)

    def _go_wrong(self) -> None:
        for word, act in DEEDS.items():
            if word in self.behaviour:
                act()


def _hang() -> None:
    while True:
        time.sleep(60)


def _raise(error: RlfleetError) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


DEEDS: dict[str, Callable[[], None]] = {
    "exit": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": _hang,
    "oom": _raise(OutOfMemory("out of memory while a step was made")),
    "diverged": _raise(TrainingDiverged("the loss is nan")),
    "broken": lambda: sys.exit("AcceleratorError: an illegal memory access was encountered"),
}


def write_folder(path: Path, content: str, behaviour: frozenset[str]) -> Path:
    """A folder with one file, complete or not there: written under a temporary name, fsynced, and renamed.

    Raises:
        DiskFull: there is no room.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.writing")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if "full" in behaviour:
            (partial / "weights.json").symlink_to("/dev/full")
        with (partial / "weights.json").open("w") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            if "partial" in behaviour:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            shutil.rmtree(partial, ignore_errors=True)
            raise DiskFull(f"no space left while writing {path}: free some and run the job again") from error
        raise
    shutil.rmtree(path, ignore_errors=True)
    return partial.rename(path)


def sha256(folder: Path) -> str:
    """The hash of a folder that ``write_folder`` wrote."""
    return hashlib.sha256((folder / "weights.json").read_bytes()).hexdigest()


def resumed_step(command: TrainCommand) -> int:
    """How many steps the state that the command resumes from has; 0 when there is none to be had."""
    if command.resume is None:
        return 0
    try:
        return int(json.loads((Path(command.resume) / "weights.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return 0


def _behaviour(command: TrainCommand) -> frozenset[str]:
    """The words that hold for this fence."""
    with Path(command.dataset).open() as rows:
        scenario = str(json.loads(rows.readline())["group"]).rpartition(" ")[2]
    words = [word.partition("@") for word in scenario.split(",")]
    return frozenset(word for word, _, last in words if not last or command.fence <= int(last))


def _step_seconds() -> float:
    return float(os.environ.get("RLFLEET_STEP_SECONDS", "0.25"))


def main() -> None:
    """The command line."""
    args = _arguments()
    die_with(args.parent)
    try:
        held = lock_device(args.state, args.device)
    except StartError as error:
        sys.exit(f"bench.faults.child: {error}")
    commands, events = Commands(args.commands_fd), Events(args.events_fd)
    signal.signal(signal.SIGTERM, lambda *_: commands.stop())
    journal = Journal.open(args.device)
    with journal.held():
        events.emit(Ready(pid=os.getpid(), device=args.device, url="http://127.0.0.1:9"))
        while (line := commands.next()) is not None:
            _carry_out(line, commands, events, journal)
    held.close()


def _carry_out(line: bytes, commands: Commands, events: Events, journal: Journal) -> None:
    command = COMMANDS.validate_json(line)
    assert isinstance(command, TrainCommand)
    try:
        Training(command, commands, events, journal).run()
    except RlfleetError as error:
        _say_failed(command, events, type(error).__name__, str(error))
    except (OSError, ValueError, KeyError) as error:
        _say_failed(command, events, PermanentError.__name__, f"{type(error).__name__}: {error}")


def _say_failed(command: TrainCommand, events: Events, error: str, message: str) -> None:
    events.emit(Failed(job=command.job, fence=command.fence, error=error, message=message))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults.child", description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--commands-fd", type=int, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
