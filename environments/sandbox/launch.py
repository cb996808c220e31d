"""One sandbox: started, given programs one at a time, and gone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from environments.sandbox import seccomp, wire
from environments.sandbox.commands import Site, as_user, uid_of_launch, with_least_core
from environments.sandbox.memory import tree_bytes
from environments.sandbox.records import OUTCOMES, Level, Limits, Ran
from rl.errors import SandboxUnavailable

START_SECONDS = 60.0
GRACE_SECONDS = 15.0
"""What the launcher, which keeps the time itself, gets beyond it before all is killed from outside."""
LOOK_SECONDS = 0.1
"""How often a run that lasts is looked at."""
SLACK_BYTES = 1 << 20


class Answer(NamedTuple):
    """What came of a run, and the folder it left, as ``folder.restore`` takes it; None where it left none."""

    ran: Ran
    folder: list[bytes] | None


class Launch:
    """A sandbox with its launcher. It takes runs while it is ``clean``: nothing is left there of an earlier one.

    Raises:
        SandboxUnavailable: it cannot be started.
    """

    def __init__(self, site: Site, limits: Limits) -> None:
        self._site, self._limits = site, limits
        self._uid = uid_of_launch()
        self._private = _private(self._uid) if site.level is Level.RLIMITS else None
        self._heard = bytearray()
        self._ready, self.clean = False, True
        self._channel, inside = socket.socketpair()
        try:
            with inside:
                self._process = _started(site, limits, inside, self._uid, self._private)
        except BaseException:
            self._forget()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, program: bytes, stdin: bytes, files: dict[bytes, bytes] | None = None, last: bool = True) -> Answer:
        """One program with its input, and with a folder's content as its working directory.

        Whatever happens to the sandbox, it ends within the limits and some seconds of grace. The launcher leaves after
        the ``last`` run.

        Raises:
            SandboxUnavailable: it does not start; says why.
        """
        limits, first = self._limits, b"" if self._ready else self._first()
        numbers = (round(1000 * limits.wall_seconds), limits.cpu_seconds, limits.memory_bytes, limits.output_bytes)
        told = " ".join(map(str, (*numbers, limits.file_bytes, limits.processes))).encode()
        content = [part for pair in (files or {}).items() for part in pair]
        message = [program, stdin, told, b"last" if last else b"", b"" if files is None else b"folder", *content]
        began = time.monotonic()
        try:
            wire.send(self._channel, first + wire.packed(message), START_SECONDS)
            self._wait_for_launcher()
            began = time.monotonic()
            return self._answered(self._watched(began + limits.wall_seconds + GRACE_SECONDS))
        except wire.Broken as error:
            self.clean = False
            self._process.kill()
            if not self._ready:
                why = self._complaint() or str(error)
                raise SandboxUnavailable(f"the sandbox does not start: {why}") from None
            return Answer(Ran("killed", -9, "", "", None, self._site.level, time.monotonic() - began), None)

    def close(self) -> None:
        """End it, and wait until it is gone. The launcher leaves by itself when the channel closes."""
        self._channel.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._forget()

    def _forget(self) -> None:
        """Close the channel and remove the folder on disk, if there is one."""
        self._channel.close()
        if self._private is not None:
            _remove(self._private)
            self._private = None

    def _first(self) -> bytes:
        return self._site.launcher + wire.packed(self._site.setup(self._limits, self._private, self._uid))

    def _wait_for_launcher(self) -> None:
        """Its setting up, which it is told of together with the first run: each message less is a wait less."""
        if not self._ready:
            if wire.receive(self._channel, self._heard, START_SECONDS, SLACK_BYTES) != [b"ready"]:
                raise wire.Broken(f"the launcher is not ready after {START_SECONDS:.0f} s")
            self._ready = True

    def _watched(self, deadline: float) -> list[bytes]:
        """The launcher's answer. Meanwhile the memory of all inside is added up, which no rlimit does."""
        limits, told = self._limits, False
        most = 3 * limits.output_bytes + limits.folder_bytes + SLACK_BYTES
        while (answer := wire.receive(self._channel, self._heard, LOOK_SECONDS, most)) is None:
            if time.monotonic() > deadline:
                raise wire.Broken("the launcher does not keep the time")
            if not told and tree_bytes(self._process.pid) > 2 * limits.memory_bytes:
                wire.send(self._channel, wire.packed([b"memory"]), GRACE_SECONDS)
                told = True
        return answer

    def _answered(self, fields: Sequence[bytes]) -> Answer:
        outcome, status, seconds, stdout, stderr, result, dirty, kept, *files = fields
        known = next((one for one in OUTCOMES if one.encode() == outcome), None)
        if known is None:
            raise wire.Broken(f"the launcher says {outcome!r}")
        self.clean = not dirty
        out, err, said = (text.decode("utf-8", "replace") for text in (stdout, stderr, result))
        ran = Ran(known, int(status), out, err, said if result else None, self._site.level, float(seconds))
        return Answer(ran, files if kept else None)

    def _complaint(self) -> str:
        """What the process that did not start said, and no more of it than a message can hold."""
        said = self._process.stderr.read(4096) if self._process.stderr else b""
        return said.decode("utf-8", "replace").strip()[-1000:]


def _started(
    site: Site, limits: Limits, inside: socket.socket, uid: int | None, private: Path | None
) -> subprocess.Popen[bytes]:
    """The process, with nothing of ours but its end of the channel and, for bubblewrap, the filter."""
    passed = [_readable(seccomp.program() or b"")] if site.level is Level.BUBBLEWRAP else []
    try:
        return subprocess.Popen(
            [*with_least_core(), *as_user(uid), *site.words(limits, passed[0] if passed else None)],
            stdin=inside.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=site.environment(private),
            cwd="/",
            pass_fds=passed,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"the sandbox does not start: {error}") from None
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _readable(content: bytes) -> int:
    """A descriptor that a child reads ``content`` from, which is less than a pipe holds."""
    read, write = os.pipe()
    with open(write, "wb") as file:
        file.write(content)
    return read


def _private(uid: int | None) -> Path:
    """A folder with the two writable ones, for a sandbox that has no file system of its own."""
    private = Path(tempfile.mkdtemp(prefix="rlfleet-sandbox-"))
    for path in (private, private / "work", private / "tmp"):
        path.mkdir(mode=0o700, exist_ok=True)
        if uid is not None:
            os.chown(path, uid, uid)
    return private


def _remove(private: Path) -> None:
    """Remove the folder, also where a program has taken its own rights to what it left."""
    for folder, names, _ in os.walk(private):
        Path(folder).chmod(0o700)
        for inside in (Path(folder, name) for name in names):
            if not inside.is_symlink():
                inside.chmod(0o700)  # before it is looked into
    shutil.rmtree(private)
