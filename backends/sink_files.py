"""Files that sinks write: whole or not there, whoever else writes the same one, and wherever one is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

START, END = ".rlfleet.", ".part"
"""How the name of a file that is being written begins and ends; between them is one for each time, on whatever host."""
LEFT_SECONDS: Final = 86_400.0
"""One that is older than this was left by a process that was killed."""


@contextmanager
def replaced(path: Path, beside: Path) -> Iterator[BinaryIO]:
    """Write what ``path`` is to hold, which it does once the block has ended.

    Until then that is a hidden file in the folder ``beside``, on the same disk; what others left there is removed.

    Raises:
        OSError: it cannot be written.
    """
    for left in beside.glob(f"{START}*{END}"):
        with suppress(OSError):  # another host removes it too
            if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                left.unlink()
    temporary = beside / f"{START}{uuid4().hex}{END}"
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
