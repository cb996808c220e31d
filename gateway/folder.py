"""The folder of a spool: who has it, and the names in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from rl.errors import StartError


def locked(folder: Path) -> int:
    """Make the folder where it is missing, and take its lock, which goes when this process does, however that ends.

    Returns the lock's descriptor.

    Raises:
        StartError: another process has it.
        OSError: the folder cannot be used.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode()
        os.close(fd)
        raise StartError(
            f"the spool {folder} is used by the gateway of process {holder}: stop that one, "
            "or set RLFLEET_SPOOL_DIR to another folder, since each gateway has its own"
        ) from None
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_names(path: Path) -> None:
    """Have the disk hold the names in the folder.

    Raises:
        OSError: it does not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
