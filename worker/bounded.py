"""``python -m worker.bounded PARENT SECONDS PROGRAM...`` becomes PROGRAM, which ends with its parent or its time.

The kernel sees to both, so that nobody has to wait for the program. ``PARENT`` is the process that starts it, from its
main thread; without Linux the program outlives it. After ``SECONDS``, 0 for no limit, the program gets SIGALRM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def bounded(seconds: int, *words: str) -> list[str]:
    """The command line of a Python program with ``words`` that is to end with this process, or after ``seconds``."""
    return [sys.executable, "-m", __name__, str(os.getpid()), str(seconds), sys.executable, *words]


def main(parent: int, seconds: int, argv: list[str]) -> None:
    """Become ``argv``, which keeps the signal of a parent's death and the alarm."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    signal.alarm(seconds)
    os.execv(argv[0], argv)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
