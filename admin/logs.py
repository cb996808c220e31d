"""The ends of logs that workers on this machine wrote, and of no other file."""

from __future__ import annotations

import re
from pathlib import Path

MOST_BYTES = 16_384
DEVICE = re.compile(r"^[A-Za-z0-9_+:-]{1,100}$")
# What a terminal would take for colours and cursor movements.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f]")


def tail_of_child(state: Path, device: str, most: int = MOST_BYTES) -> str | None:
    """The last lines that the device's child wrote, at most ``most`` bytes; None where this machine has no such log.

    ``state`` is the folder in ``RLFLEET_STATE``. What leads out of it is not read.
    """
    if not DEVICE.match(device):
        return None
    folder = (state / "logs").resolve()
    path = folder / f"child-{device}.log"
    try:
        if path.resolve() != path or not path.is_file():
            return None
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(size - most, 0))
            said = log.read(most).decode("utf-8", "replace")
    except OSError:
        return None
    lines = said.replace("\r\n", "\n").replace("\r", "\n")
    return CONTROL.sub("", lines if size <= most else lines.partition("\n")[2])
