"""A training over several devices: a process for each, which the resident child starts, watches and ends.

The child goes on serving. A process is told where the others are by the variables that torchrun would set; the store
where they meet is the child's, on a port of the loopback interface alone. They die with the child, and when one of them
ends badly the others are killed: those wait in a collective for what will never come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import distributed as dist

from gpu import locks, lost
from gpu.policy import Policy
from gpu.reported import Emit
from rl.config import TrainConfig
from rl.errors import ChildLost, InvalidInput, RlfleetError
from rl.protocol import EVENTS, Failed, Line, PauseCommand, StopCommand, TrainCommand

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
TICK_SECONDS = 0.2
EXIT_SECONDS = 30.0
KILL_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""How long a better reason than "the others are gone" is waited for."""


def train(
    command: TrainCommand,
    config: TrainConfig,
    policy: Policy,
    emit: Emit,
    stopping: Callable[[], bool],
    pausing: Callable[[], bool],
) -> None:
    """Run ``command`` on the first ``config.devices`` of the policy's, as ``gpu.trainer.train`` runs it on one.

    What the policy does not serve is dropped before: the processes need the memory.

    Raises:
        InvalidInput: there are not so many devices, or the base cannot be divided.
        ChildLost: a process died or could not be started; no other is left.
        OutOfMemory: one of them had no memory left, or the kernel killed it because the machine had none.
        RlfleetError: what any of them failed with, by name.
    """
    _refuse(config, len(policy.devices))
    policy.drop_idle()
    kills = lost.kills()
    with contextlib.ExitStack() as ending:
        ranks = _started(command, policy.devices[: config.devices], ending)
        if _followed(ranks, command, emit, stopping, pausing):
            return
        raise _why(ranks, kills)


class Rank:
    """One process of a training, from this side."""

    def __init__(self, place: int, world: int, device: torch.device, port: int) -> None:
        self.place, self.world, self.device, self.port = place, world, device, port
        self.failed: Failed | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.commands = self.events = -1
        self._buffer = b""

    def start(self) -> None:
        """Start the process; it dies with the thread that calls this."""
        with contextlib.ExitStack() as theirs:
            command_read, self.commands = os.pipe()
            theirs.callback(os.close, command_read)
            self.events, event_write = os.pipe()
            theirs.callback(os.close, event_write)
            words = ["--device", str(self.device), "--commands-fd", str(command_read), "--events-fd", str(event_write)]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gpu.rank", *words, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                # With the locks: should the child die, no other takes a device before this process is gone too.
                pass_fds=(command_read, event_write, *locks.descriptors()),
                env=os.environ | self._meeting(),
            )

    def send(self, line: Line) -> None:
        """Write a line to its commands; one that is gone is noticed by its events."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.commands, line.line())

    def read(self, emit: Emit) -> bool:
        """Hand on what it has said; False at the end of it. Waits where there is nothing yet."""
        chunk = os.read(self.events, 1 << 16)
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for event in map(EVENTS.validate_json, lines):
            if isinstance(event, Failed):
                self.failed = event
            else:
                emit(event)  # type: ignore[arg-type]
        return bool(chunk)

    def code(self, seconds: float = 0.0) -> int | None:
        """Its exit code; None if it still runs after so many seconds."""
        assert self.process is not None  # noqa: S101
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def close(self) -> None:
        """Kill it if it runs, and give back what belongs to it. One that a driver holds may take longer to die."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            if self.code(KILL_SECONDS) is None:
                log.warning("process %d of a training runs %.0f s after SIGKILL", self.process.pid, KILL_SECONDS)
        for descriptor in (self.commands, self.events):
            if descriptor >= 0:
                os.close(descriptor)

    def _meeting(self) -> dict[str, str]:
        place = {"RANK": self.place, "LOCAL_RANK": self.place, "WORLD_SIZE": self.world, "LOCAL_WORLD_SIZE": self.world}
        where = {"MASTER_ADDR": HOST, "MASTER_PORT": self.port, "TORCHELASTIC_USE_AGENT_STORE": True}
        loopback = "lo" if sys.platform == "linux" else "lo0"
        named = {name: os.environ.get(name, loopback) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
        return {name: str(value) for name, value in {**place, **where, **named}.items()}


def _started(command: TrainCommand, devices: Sequence[torch.device], ending: contextlib.ExitStack) -> list[Rank]:
    """A process on each device, all of which have the command; ``ending`` ends them."""
    world, ranks = len(devices), []
    try:
        port = ending.enter_context(_store())
        for place, device in enumerate(devices):
            ranks.append(Rank(place, world, device, port))
            ending.callback(ranks[-1].close)
            ranks[-1].start()
            ranks[-1].send(command)
    except OSError as error:
        raise ChildLost(f"process {len(ranks)} of {world} could not be started: {error}") from error
    return ranks


@contextlib.contextmanager
def _store() -> Iterator[int]:
    """The port of a store that the processes meet at. PyTorch would listen on all interfaces by itself."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        port = int(listening.getsockname()[1])
        own = os.dup(listening.fileno())  # the store closes the one that it is given
        store: Any = dist.TCPStore  # type: ignore[attr-defined]
        server = store(HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=own)
        try:
            yield port
        finally:
            del server


def _refuse(config: TrainConfig, there: int) -> None:
    if config.devices > there:
        remedy = f"this worker has {there} of them; ask for no more, or give it others joined with +"
        raise InvalidInput("config.devices", config.devices, remedy)
    if config.quantization:
        remedy = (
            f"a base in four bits cannot be divided over {config.devices} devices; leave it out, or set devices = 1"
        )
        raise InvalidInput("config.quantization", config.quantization, remedy)


def _followed(
    ranks: Sequence[Rank],
    command: TrainCommand,
    emit: Emit,
    stopping: Callable[[], bool],
    pausing: Callable[[], bool],
) -> bool:
    """Hand events on until all processes have ended; False as soon as one of them has ended badly."""
    told: set[str] = set()
    speaking = list(ranks)
    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            selector.register(rank.events, selectors.EVENT_READ, rank)
        while speaking:
            for key, _ in selector.select(TICK_SECONDS):
                rank = key.data
                if not rank.read(emit):
                    selector.unregister(rank.events)
                    speaking.remove(rank)
                    if rank.code(EXIT_SECONDS) != 0:
                        return False
                if rank.failed:
                    return False
            for line, asked in ((_pause(command), pausing), (StopCommand(), stopping)):
                if line.command not in told and asked():
                    told.add(line.command)
                    ranks[0].send(line)
    return True


def _pause(command: TrainCommand) -> PauseCommand:
    return PauseCommand(job=command.job, fence=command.fence)


def _why(ranks: Sequence[Rank], kills: int | None) -> RlfleetError:
    """The best reason that any of them has for its end; the rest only lost each other."""
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        for rank in ranks:
            _drain(rank)
        ends = [lost.End(one.place, str(one.device), one.failed, one.code()) for one in ranks]
        reason, is_best = lost.reason(ends, kills)
        if is_best or time.monotonic() > deadline:
            return reason
        time.sleep(TICK_SECONDS)


def _drain(rank: Rank) -> None:
    """Read what has been said already; events but a failure come too late."""
    with selectors.DefaultSelector() as selector:
        selector.register(rank.events, selectors.EVENT_READ)
        while selector.select(0) and rank.read(lambda event: None):
            pass
