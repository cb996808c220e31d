"""Start one program in a session of its own, such that the kernel ends it when the supervisor dies."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fleet.account import Account
from rl.errors import StartError

PR_SET_PDEATHSIG = 1
KERNEL_ENDS_CHILDREN = sys.platform == "linux"
_LIBC = ctypes.CDLL(None) if KERNEL_ENDS_CHILDREN else None


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    death_signal: signal.Signals,
    account: Account | None = None,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv``; it leads a session and process group, so that a terminal's Ctrl-C does not reach it.

    ``log`` is appended to. ``stdin``, at most 4 KiB, is all that the program can read. ``keep`` are
    descriptors that it inherits. On Linux it gets ``death_signal`` when this process dies, or the thread that
    started it: so only the main thread may.

    Raises:
        StartError: the program cannot be executed, or this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise StartError(f"{argv[0]} must be started from the main thread: it would die with any other")
    drop = account if account and account.switch else None
    source = _readable(stdin)
    try:
        with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
            return subprocess.Popen(
                argv,
                stdin=source,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                pass_fds=keep,
                start_new_session=True,
                umask=0o077,  # conversations, weights and logs are this user's alone
                user=drop.uid if drop else None,
                group=drop.gid if drop else None,
                extra_groups=[] if drop else None,
                preexec_fn=_dies_with(os.getpid(), death_signal),  # noqa: PLW1509 - no thread runs yet
            )
    except OSError as error:
        who = f" as {account}" if account else ""
        remedy = ": a root without CAP_SETUID cannot switch; start as an ordinary user" if drop else ""
        raise StartError(f"{argv[0]} cannot be started{who} ({error.strerror}){remedy}") from error
    finally:
        if source != subprocess.DEVNULL:
            os.close(source)


def _readable(content: bytes | None) -> int:
    """A descriptor to read ``content`` from. It fits the pipe's buffer, so nobody has to wait for a reader."""
    if content is None:
        return subprocess.DEVNULL
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader


def _dies_with(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    libc = _LIBC
    if libc is None:
        return None

    def before_exec() -> None:
        # Runs after the change of user, which would have cleared the setting.
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
