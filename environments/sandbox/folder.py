"""A folder of the host as the sandbox gets it, and what comes back of it.

No folder of the host is inside the sandbox: its content is copied in and copied back, so that a program can leave
neither links, devices nor pipes for the host to stumble over, nor fill its disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from rl.errors import InvalidInput

MOST_ENTRIES, MOST_PATH = 4096, 1024
PATH_MAX, NAME_MAX = 4096, 255
"""Linux's own bounds for a path that is used and for one name."""
BLOCK = 4096
"""Bytes of memory that content is held in inside: 1 byte takes as much."""


def snapshot(folder: Path, most_bytes: int) -> dict[bytes, bytes]:
    """Relative path to content; a folder's path ends in ``/``, and comes before what is in it.

    Raises:
        InvalidInput: there is no such folder, it holds something other than files and folders, or too much, or paths
            are too long.
    """
    if not folder.is_dir():
        raise InvalidInput("folder", str(folder), "it must be a folder that exists")
    _fits(folder)
    found: dict[bytes, bytes] = {}
    waiting, size = [b""], 0
    while waiting:
        inside = waiting.pop()
        for path in sorted(inside + entry.name for entry in os.scandir(os.fsencode(_at(folder, inside)))):
            if len(path) > MOST_PATH:
                raise InvalidInput("folder", str(folder), f"paths in it have at most {MOST_PATH} bytes")
            kind = _at(folder, path).lstat().st_mode
            if stat.S_ISDIR(kind):
                found[path + b"/"] = b""
                waiting.append(path + b"/")
            elif stat.S_ISREG(kind):
                found[path] = _at(folder, path).read_bytes()
                size += room_for(found[path])
            else:
                raise InvalidInput("folder", str(folder), f"{os.fsdecode(path)} is neither a file nor a folder")
            if size > most_bytes or len(found) > MOST_ENTRIES:
                raise InvalidInput("folder", str(folder), f"at most {MOST_ENTRIES} entries and {most_bytes} bytes fit")
    return found


def room_for(content: bytes) -> int:
    """Bytes that a file with this content takes inside: whole blocks."""
    return -(-len(content) // BLOCK) * BLOCK


def restore(folder: Path, before: dict[bytes, bytes], fields: Sequence[bytes]) -> None:
    """Make the folder what the sandbox says that it became. Only what differs is touched.

    Raises:
        InvalidInput: the launcher names a path outside of the folder, or one that is too long; nothing is touched then.
    """
    _fits(folder)
    after = dict(zip(fields[::2], fields[1::2], strict=True))
    for path in after:
        parts = path.removesuffix(b"/").split(b"/")
        if b"\0" in path or {b"", b".", b".."} & set(parts):
            raise InvalidInput("path in the sandbox", path, "it is not inside of the folder")
        if len(path.removesuffix(b"/")) > MOST_PATH or max(map(len, parts)) > NAME_MAX:
            raise InvalidInput(
                "path in the sandbox", path[:80], f"at most {MOST_PATH} bytes, and {NAME_MAX} of a name, can be kept"
            )
    for path in sorted(set(before) - set(after), reverse=True):
        target = _at(folder, path)
        target.rmdir() if path.endswith(b"/") else target.unlink()
    for path in sorted(after):
        target = _at(folder, path)
        if path.endswith(b"/"):
            target.mkdir(exist_ok=True)
        elif before.get(path) != after[path]:
            _write(target, after[path])


def _fits(folder: Path) -> None:
    """Raises ``InvalidInput`` where paths of the allowed length would be too long for the system below this folder."""
    most = PATH_MAX - MOST_PATH - 2
    if len(os.fsencode(folder)) > most:
        raise InvalidInput("folder", str(folder)[:80], f"its own path has at most {most} bytes")


def _at(folder: Path, path: bytes) -> Path:
    return folder / os.fsdecode(path)


def _write(path: Path, content: bytes) -> None:
    """Write a file, and never through a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as file:
        file.write(content)
