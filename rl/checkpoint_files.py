"""What a checkpoint's folder is made of: which files count for its hash, and where it lies below any root of artifacts.

Rows name a folder by the path that it had where it was trained. Another host may have its artifacts elsewhere; below
the root every host calls it the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

HASHED: Final = (".safetensors", ".json", ".jinja", ".txt", ".model")
RECORD: Final = "checkpoint.json"
"""Our own record of a checkpoint, which holds the hash and so is not part of it."""

PLACE: Final = re.compile(r"/(jobs/[0-9]{1,18}/fence-[0-9]{1,18}/step-[0-9]{1,18})/?$")


def is_hashed(name: str) -> bool:
    """Whether the file of that name counts for the checkpoint's hash."""
    return PurePath(name).suffix in HASHED and name != RECORD


def digest(files: Mapping[str, str]) -> str:
    """The SHA-256 of a checkpoint from those of its files, by name; files that do not count are left out."""
    total = hashlib.sha256()
    for name in sorted(files):
        if is_hashed(name):
            total.update(f"{name}\0{files[name]}\n".encode())
    return total.hexdigest()


def place_of(path: str) -> str | None:
    """Where a checkpoint of ours lies below its root: ``jobs/4/fence-1/step-000002``. None for other folders."""
    found = PLACE.search(path)
    return found[1] if found else None
