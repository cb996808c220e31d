"""The process that watches over programs from inside the sandbox; its text is given to the interpreter there.

It is alone with one program at a time, and it is what a hostile one would like to reach: at the levels with namespaces
it is process 1, which nobody inside can signal, there is no /proc, the filter refuses whatever looks into another
process, and the program does not have the channel to the host. It imports nothing of the project's and as little as it
can, because each import is time: `posix` and `_signal` are what `os` and `signal` wrap.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import posix
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # inside, the files of this launcher are run one after the other in one namespace, this one last
    from environments.sandbox.confine import confine
    from environments.sandbox.program import execute, open_streams
    from environments.sandbox.tree import collect, place

CHANNEL = 0
TICK = 0.05
MOST_FILES = 8192
KEPT_OPEN = 128
"""Descriptors that a program may have."""
RESULT = 3
"""The descriptor of ``RESULT_FD``."""


def receive() -> list[bytes]:
    """One message of the host. When the host is gone, so is everything here."""
    count = int.from_bytes(exactly(4), "big")
    return [exactly(int.from_bytes(exactly(8), "big")) for _ in range(count)]


def exactly(size: int) -> bytes:
    """The next ``size`` bytes of the channel."""
    parts = []
    while size:
        part = posix.read(CHANNEL, min(size, 1 << 18))
        if not part:
            end_all()
            posix._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send(fields: list[bytes]) -> None:
    """One message to the host."""
    message = len(fields).to_bytes(4, "big") + b"".join(len(one).to_bytes(8, "big") + one for one in fields)
    view = memoryview(message)
    while view:
        view = view[posix.write(CHANNEL, view) :]


class Home:
    """Where this launcher is: its two writable folders, whether all that it may signal is its own, and the program."""

    work = b"/work"
    temporary = b"/tmp"
    alone = True
    program = 0


def end_all() -> None:
    """Kill the program, if there is one, and all that it started."""
    try:
        if Home.alone:
            posix.kill(-1, _signal.SIGKILL)
        elif Home.program:
            posix.killpg(Home.program, _signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class Run:
    """One program: started, watched, ended, and told about."""

    def __init__(self, program: bytes, stdin: bytes, limits: list[int]) -> None:
        self.wall, self.cpu, self.memory, self.output, self.file, self.processes = limits
        self.began = time.monotonic()
        self.outcome = ""
        self.status = 0
        self.used = 0.0
        self.ended = False
        pipes = [posix.pipe() for _ in range(3)]
        with open(Home.temporary + b"/.stdin", "xb") as file:
            file.write(stdin)
        self.pid = Home.program = posix.fork()
        if self.pid == 0:
            self.become(program, [write for _, write in pipes])
        for read, write in pipes:
            posix.close(write)
            posix.set_blocking(read, False)
        self.reads = [read for read, _ in pipes]
        self.said = {read: bytearray() for read in self.reads}
        self.open = set(self.reads)

    def become(self, program: bytes, writes: list[int]) -> None:
        """In the new process: take nothing along, put on the limits, and be the program."""
        try:
            posix.setsid()
            stdin = posix.open(Home.temporary + b"/.stdin", posix.O_RDONLY)
            for target, source in enumerate((stdin, writes[0], writes[1])):
                posix.dup2(source, target)
            posix.dup2(writes[2], RESULT)
            posix.closerange(RESULT + 1, 1024)
            posix.chdir(Home.work)
            self.limit()
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            open_streams()
        except BaseException as error:
            posix.write(2, f"the sandbox could not start the program: {error!r}\n".encode())
            posix._exit(125)
        execute(program)

    def limit(self) -> None:
        """Limits that the program cannot raise. A soft CPU limit below the hard one tells by its signal what it was."""
        for what, most in (
            (resource.RLIMIT_NOFILE, KEPT_OPEN),
            (resource.RLIMIT_FSIZE, self.file),
            (resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_NPROC, self.processes),
        ):
            hard = resource.getrlimit(what)[1]
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu, self.cpu + 1))

    def watch(self) -> None:
        """Until it has ended, or must be ended."""
        while not self.ended and not self.outcome:
            left = self.began + self.wall / 1000 - time.monotonic()
            pause = TICK if self.open else 0.001
            ready, _, _ = select.select([CHANNEL, *self.open], [], [], max(0.0, min(pause, left)))
            if CHANNEL in ready:
                self.outcome = receive()[0].decode()
            for read in self.open.intersection(ready):
                self.hear(read)
            self.reap()
            if not self.ended and left <= 0:
                self.outcome = "timeout"
            elif crowded():
                self.outcome = "output"

    def hear(self, read: int) -> None:
        """What one stream holds, as far as it is allowed."""
        try:
            part = posix.read(read, 1 << 16)
        except BlockingIOError:
            return
        if not part:
            self.open.discard(read)
        heard = self.said[read]
        heard += part
        if len(heard) > self.output:
            del heard[self.output :]
            self.outcome = self.outcome or "output"
            self.open.discard(read)

    def reap(self, flags: int = posix.WNOHANG) -> None:
        """Take note of the program's end, and bury whatever else has ended."""
        while True:
            try:
                pid, status, usage = posix.wait4(-1 if Home.alone else self.pid, flags)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.ended, self.status = True, posix.waitstatus_to_exitcode(status)
                self.used = usage.ru_utime + usage.ru_stime
                if not Home.alone:
                    return

    def finish(self) -> list[bytes]:
        """End what is left of it, read to the end, and tell."""
        seconds = time.monotonic() - self.began
        end_all()
        self.reap(0)
        Home.program = 0
        for read in self.reads:
            while read in self.open and select.select([read], [], [], 0)[0]:
                self.hear(read)
            posix.close(read)
        outcome = self.outcome or self.judged()
        texts = [bytes(self.said[read]) for read in self.reads]
        return [outcome.encode(), str(self.status).encode(), str(seconds).encode(), *texts]

    def judged(self) -> str:
        """The outcome by status."""
        if self.status == 0:
            return "ok"
        if self.status < 0:
            return "timeout" if self.used >= self.cpu or self.status == -_signal.SIGXCPU else "killed"
        last = bytes(self.said[self.reads[1]]).rstrip().rpartition(b"\n")[2]
        return "memory" if last.startswith(b"MemoryError") else "error"


def crowded() -> bool:
    """Whether so many files were made that they, being empty, would fill the host's memory."""
    if not Home.alone or Home.work != b"/work":
        return False
    found = map(posix.statvfs, (Home.work, Home.temporary))
    return any(one.f_files - one.f_ffree > MOST_FILES for one in found)


def dirty() -> bool:
    """Whether the program left anything that another could find."""
    try:
        posix.unlink(Home.temporary + b"/.stdin")
        return bool(posix.listdir(Home.work) or posix.listdir(Home.temporary))
    except OSError:
        return True


def one_run(job: list[bytes]) -> list[bytes]:
    """A run from its message: program, input, limits, if it is the last, if it has a folder, and what is in that."""
    program, stdin, numbers, _, has_folder, *files = job
    limits = [int(number) for number in numbers.split()]
    place(Home.work, files)
    run = Run(program, stdin, limits)
    run.watch()
    told = run.finish()
    left = collect(Home.work, 4 * run.file) if has_folder else []
    stale = bool(has_folder) or dirty()
    if left is None:
        told[0] = b"output"
    return [*told, b"dirty" if stale else b"", b"folder" if has_folder and left is not None else b"", *(left or [])]


def main() -> None:
    """Set up, say so, then one run after the other until the host hangs up."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    posix.closerange(3, 1024)
    sys.path[:] = [path for path in sys.path if path]
    posix.environ.pop(b"PWD", None)  # bubblewrap's own
    posix.unsetenv(b"PWD")
    plan, filter_program, alone, Home.work, Home.temporary = receive()
    Home.alone = bool(alone)
    if plan:
        confine(plan, filter_program)
    gc.freeze()
    send([b"ready"])
    while True:
        job = receive()
        if len(job) > 1:  # else it is about a run that has ended meanwhile
            send(one_run(job))
            if job[3]:
                posix._exit(0)


if __name__ == "__main__":
    main()
