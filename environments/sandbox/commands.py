"""What is started for a sandbox of each level, and as whom."""

from __future__ import annotations

import os
import resource
import secrets
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from environments.sandbox import seccomp
from environments.sandbox.interpreter import Interpreter, Mount
from environments.sandbox.records import Level, Limits

NOBODY = "65534"
FIRST_UID, UIDS = 1879048192, 1 << 28
"""Of the range that neither people, services nor containers get by convention."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "RESULT_FD": "3"}
"""Of what is started. The hash seed is fixed because the order of a set of strings is part of what a program prints."""
BOOTSTRAP = """import marshal, posix
def exactly(size):
    text = b""
    while len(text) < size:
        text += posix.read(0, size - len(text)) or posix._exit(0)
    return text
names = {"__name__": "__main__"}
for _ in range(exactly(1)[0]):
    exec(marshal.loads(exactly(int.from_bytes(exactly(8), "big"))), names)
"""
"""What the interpreter is started with: it takes the launcher from the channel."""
PYTHON = ("-s", "-S", "-B", "-X", "utf8", "-c")
"""As ``-I -S``, but that reads no ``PYTHONHASHSEED``; what else ``-I`` would keep out is not there."""


@dataclass(frozen=True)
class Site:
    """How sandboxes are made on this machine."""

    level: Level
    interpreter: Interpreter

    def words(self, limits: Limits, filter_file: int | None) -> list[str]:
        """The command line. Nothing of a program is part of it."""
        python = [self.interpreter.path, *PYTHON, BOOTSTRAP]
        if self.level is Level.BUBBLEWRAP:
            return [*_bubblewrap(self.mounts(limits.folder_bytes)), "--seccomp", str(filter_file), *python]
        return [program("unshare"), *UNSHARE, *python] if self.level is Level.NAMESPACES else python

    @property
    def launcher(self) -> bytes:
        """The launcher, as ``BOOTSTRAP`` takes it."""
        code = self.interpreter.code[0 if self.level is Level.NAMESPACES else 1 :]
        return bytes([len(code)]) + b"".join(len(one).to_bytes(8, "big") + one for one in code)

    def environment(self, private: Path | None) -> dict[str, str]:
        """All variables that there are inside."""
        temporary = "/tmp" if private is None else str(private / "tmp")  # noqa: S108
        return {**ENVIRONMENT, "HOME": temporary, "TMPDIR": temporary}

    @cache  # noqa: B019 - a process has a site for each level, and keeps it
    def mounts(self, folder_bytes: int) -> list[Mount]:
        """See ``Interpreter.mounts``, which looks at the disk."""
        return self.interpreter.mounts(folder_bytes)

    def setup(self, limits: Limits, private: Path | None, uid: int | None) -> list[bytes]:
        """The launcher's first message: see ``launcher.main``."""
        if private is not None:
            places = [os.fsencode(private / name) for name in ("work", "tmp")]
            return [b"", b"", b"alone" if uid is not None and uid >= FIRST_UID else b"", *places]
        if self.level is Level.BUBBLEWRAP:
            return [b"", b"", b"alone", b"/work", b"/tmp"]
        plan = ["\t".join(mount) for mount in self.mounts(limits.folder_bytes)]
        return ["\n".join(plan).encode(), seccomp.program() or b"", b"alone", b"/work", b"/tmp"]


UNSHARE = (
    *("--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--keep-caps", "--mount"),
    *("--net", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child", "--"),
)


def _bubblewrap(mounts: list[Mount]) -> list[str]:
    """Process 1 is the launcher itself: nobody inside can signal it, and all ends with it."""
    words = [program("bwrap"), "--unshare-all", "--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--as-pid-1", "--hostname", "sandbox"]
    for kind, target, source in mounts:
        if kind == "room":
            words += ["--perms", "0700", "--size", source or "4096", "--tmpfs", target]
            words += [] if source else ["--remount-ro", target]
        else:
            words += [{"bind": "--ro-bind", "device": "--dev-bind", "link": "--symlink"}[kind], source, target]
    return [*words, "--remount-ro", "/", "--chdir", "/work"]


def uid_of_launch() -> int | None:
    """Whom a launch runs as: somebody of its own where this process may choose, else None for who this process is.

    The kernel limits processes by user, and not those of root. Two launches of one user would share one limit on
    kernels before 5.14, and where there are no namespaces could signal each other.
    """
    if os.geteuid() != 0:
        return None
    if _mapped(FIRST_UID, UIDS):
        return FIRST_UID + secrets.randbelow(UIDS)
    return int(NOBODY) if _mapped(int(NOBODY), 1) else None


def as_user(uid: int | None) -> list[str]:
    """What becomes that user and goes on with the words after it.

    ``Popen(user=...)`` would copy this process's page tables, which takes longer than another program takes to start.
    """
    if uid is None:
        return []
    return [program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]


def with_least_core() -> list[str]:
    """What starts the words after it with core files of at most 1 byte.

    That is the one size that also keeps the kernel from starting the host's crash handler; 0 does not. Nothing starts
    so where this process may have no core files at all, as only a size below the own one can be set.
    """
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return [] if most == 0 else [program("prlimit"), "--core=1", "--"]


@cache
def program(name: str) -> str:
    """Where the program is, by this process's PATH; just its name where it is not."""
    return shutil.which(name) or name


@cache
def _mapped(first: int, count: int) -> bool:
    """Whether this process's user namespace has these users; a container often has fewer."""
    try:
        ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return True
    return any(inside <= first and first + count <= inside + size for inside, _, size in ranges)
