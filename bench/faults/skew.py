"""A process whose wall clock is wrong: leases, back-offs and expiries must not depend on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rl.errors import StartError

SOURCE = Path(__file__).with_name("clock.c")


def skewed(seconds: int, folder: Path) -> dict[str, str]:
    """The environment variables that make a process see the wall clock ``seconds`` ahead (behind, if negative).

    The library is compiled into ``folder`` with ``cc`` on first use. Monotonic clocks stay right. Processes that
    the process starts inherit both.

    Raises:
        StartError: there is no C compiler, or it failed.
    """
    return {"LD_PRELOAD": str(library(folder)), "RLFLEET_SKEW": str(seconds)}


def library(folder: Path) -> Path:
    """The compiled library in ``folder``.

    Raises:
        StartError: there is no C compiler, or it failed.
    """
    path = folder.resolve() / "clock.so"
    if path.exists():
        return path
    partial = path.with_suffix(".new")
    words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(partial), str(SOURCE), "-ldl"]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise StartError("cc was not found: clocks are skewed by a small C library; install a C compiler") from error
    except subprocess.CalledProcessError as error:
        raise StartError(f"cc could not compile {SOURCE}: {error.stderr.strip()}") from error
    return partial.rename(path)
