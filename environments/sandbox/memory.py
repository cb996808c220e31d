"""How much memory a process and all below it hold."""

from __future__ import annotations

import re
from pathlib import Path

KIBIBYTE = 1024
COUNTED = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s*(\d+) kB$", re.MULTILINE)
"""Memory that is a process's own, that which it shares, also with files in memory, and that which is swapped out."""


def tree_bytes(root: int) -> int:
    """Memory of a process and its descendants, without what files back; 0 where the system has no /proc.

    Resident or swapped out. Pages that several of them share count for each that has used them.
    """
    total, waiting = 0, [root]
    while waiting:
        place = Path("/proc", str(waiting.pop()))
        try:
            status = (place / "status").read_text()
            for thread in (place / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        total += sum(KIBIBYTE * int(size) for size in COUNTED.findall(status))
    return total
