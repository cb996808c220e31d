"""Text files that may be compressed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO


def opened(path: Path) -> IO[str]:
    """The text of a file, or of what a ``.gz`` holds; bytes that are no UTF-8 become U+FFFD."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")
