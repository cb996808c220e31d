"""What the store says of a checkpoint: its files in parts, each with its hash. It is written last.

A part is an object of its own: what was sent before a cut is not sent again, nothing of it lies hidden in the store,
and a large file takes little memory. Our record of the checkpoint, which its hash is not over, lies in the manifest.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rl.checkpoint_files import RECORD, digest, is_hashed
from rl.errors import InvalidInput, StoreDamaged

MANIFEST = "manifest.json"
"""The name of the manifest's own object."""
PART_BYTES = 8 << 20
"""Small, so that some get through a slow link within one pass."""
MOST_KNOWN = 256

NAME = r"^\w[\w.-]*$"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Entry):
    """Consecutive bytes of a file, in the object of that name beside the manifest."""

    object: Annotated[str, Field(pattern=NAME)]
    bytes: Annotated[int, Field(ge=0, le=PART_BYTES)]
    sha256: Sha256


class File(_Entry):
    """A file of the folder, in the order of its parts."""

    name: Annotated[str, Field(pattern=NAME)]
    sha256: Sha256
    parts: tuple[Part, ...]


class Manifest(_Entry):
    """A checkpoint by its SHA-256. ``record`` is its ``checkpoint.json``, if it has one."""

    version: Literal[1] = Field(1, alias="schema")
    sha256: Sha256
    record: str | None
    files: tuple[File, ...]

    @property
    def parts(self) -> list[tuple[File, int, Part]]:
        """Every part with its file and where in it it begins, always in the same order."""
        found = []
        for file in self.files:
            start = 0
            for part in file.parts:
                found.append((file, start, part))
                start += part.bytes
        return found


class _Reading:
    """A file that is being hashed, part by part. Whoever has to stop goes on where it was."""

    def __init__(self) -> None:
        self._total, self._parts, self._bytes = hashlib.sha256(), list[tuple[int, str]](), 0

    def read(self, path: Path) -> bool:
        """Read one more part; whether there are more."""
        with path.open("rb") as stream:
            stream.seek(self._bytes)
            data = stream.read(PART_BYTES)
        if data or not self._parts:
            self._total.update(data)
            self._parts.append((len(data), hashlib.sha256(data).hexdigest()))
            self._bytes += len(data)
        return len(data) == PART_BYTES

    def file(self, name: str) -> File:
        """What the manifest says of it, once it is read."""
        several = len(self._parts) > 1 or name == MANIFEST
        parts = tuple(
            Part(object=f"{name}.part-{number:05d}" if several else name, bytes=size, sha256=sha256)
            for number, (size, sha256) in enumerate(self._parts)
        )
        return File(name=name, sha256=self._total.copy().hexdigest(), parts=parts)


_known: OrderedDict[tuple[str, int, int], tuple[_Reading, bool]] = OrderedDict()
"""Files by path, size and time of their last change, and whether they are read to the end."""


async def of_folder(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder. A file is read again only when it was changed.

    Raises:
        InvalidInput: a file has a name that no object has.
        OSError: a file cannot be read.
    """
    files = []
    for path in sorted(path for path in folder.iterdir() if is_hashed(path.name) and path.is_file()):
        if not re.fullmatch(NAME, path.name):
            remedy = "a file whose name is not made of letters, digits, '_', '.' and '-' cannot be stored: use none"
            raise InvalidInput("checkpoint", str(path), remedy)
        key = (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        reading, is_read = _known.get(key) or (_Reading(), False)
        while not is_read:
            is_read = not await asyncio.to_thread(reading.read, path)
            _known[key] = reading, is_read
        _known.move_to_end(key)
        while len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
        files.append(reading.file(path.name))
    record = (folder / RECORD).read_text() if (folder / RECORD).is_file() else None
    return Manifest(sha256=digest({one.name: one.sha256 for one in files}), record=record, files=tuple(files))


def parse(data: bytes, where: str, sha256: str) -> Manifest:
    """The manifest in an object of the store, which is to be of that checkpoint.

    Raises:
        StoreDamaged: it is no such manifest.
    """
    try:
        found = Manifest.model_validate_json(data)
    except ValidationError:
        found = None
    if found is None or found.sha256 != sha256 or digest({one.name: one.sha256 for one in found.files}) != sha256:
        raise StoreDamaged(f"{where} is damaged: it is not the manifest of that checkpoint; {REPAIR}")
    return found


REPAIR = "this copy is not used, and a host that has the folder repairs it"
