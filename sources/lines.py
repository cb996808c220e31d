"""Files of lines that sources read: where their URLs point, and their text, which may be compressed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from rl.errors import InvalidInput


def file_of(url: str) -> Path:
    """The file that a URL such as ``jsonl:///path`` names.

    Raises:
        InvalidInput: there is no such file.
    """
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if not path.is_file():
        raise InvalidInput("line.source", url, f"no such file; give an absolute path after {parts.scheme}://")
    return path


def opened(path: Path) -> IO[str]:
    """The text of a file, or of what a ``.gz`` holds; bytes that are no UTF-8 become U+FFFD."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")
