"""The files that the sink ``wandb`` and the process that it starts leave for each other: whole, or not there.

Neither stops at one that it can make nothing of, such as what a full disk left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = re.compile(r"job-(\d+)-")
COPY: Final = "copy"
"""The entry of a run's summary that says which order it is from."""


def those_in(folder: Path) -> Iterator[Path]:
    """The files of ``folder`` by name, also where there is no such folder."""
    yield from sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read(path: Path) -> dict[str, Any]:
    """What the file says; nothing where it is gone or broken."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def job_of(path: Path) -> int | None:
    """The job whose run the file is about, by its name alone."""
    found = NAME.match(path.name)
    return int(found[1]) if found else None


def write(path: Path, value: Mapping[str, Any], instead_of: Path | None = None) -> None:
    """Have the file on the disk. Until it is whole it has a name that ``those_in`` does not give.

    One that replaces another, or is ``instead_of`` it, is as old as that.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.utime(temporary, (time.time(), (instead_of or path).stat().st_mtime))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
