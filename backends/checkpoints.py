"""Checkpoints in the artifact store: each under its own SHA-256, there once its manifest is, checked when it is read.

    checkpoints/<sha256>/<file>           a file, or in pieces <file>.part-00000 and so on
    checkpoints/<sha256>/manifest.json    written last: without it the checkpoint is not there

Every publisher of a hash writes the same files under the same names, so that two at once do each other no harm. Only
our record of the checkpoint, which lies in the manifest, may be another's: the hash is not over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

from backends.manifest import MANIFEST, REPAIR, File, Part, of_folder, parse
from backends.store import Store, together
from rl.checkpoint_files import RECORD, digest
from rl.errors import DiskFull, InvalidInput, StoreDamaged, StoreLacks, StoreUnavailable

AT_ONCE = 4
"""Parts under way together: so many times ``PART_BYTES`` are in memory."""
LOCK_SECONDS = 0.2
LOOKS = 3
"""So often what was sent is looked at, and what somebody removed meanwhile is sent again."""


def folder_of(sha256: str) -> str:
    """Where in the store the checkpoint lies."""
    return f"checkpoints/{sha256}"


async def publish(
    store: Store, folder: Path, sha256: str, sent: int = 0, on_sent: Callable[[int], object] = lambda count: None
) -> None:
    """Have the store hold the checkpoint in ``folder``, whose hash is ``sha256``.

    The first ``sent`` parts are there, by an earlier try; ``on_sent`` is told how many are, first once the folder was
    read. A part that lies there already is read, and is sent where it is not the same: so what is damaged in the store
    is put right.

    Raises:
        InvalidInput: the folder does not hold that checkpoint any more, or a file whose name no object has.
        StoreRefused, StoreUnavailable: see ``backends.store``; also where somebody goes on removing it.
        OSError: a file cannot be read.
    """
    manifest = await of_folder(folder)
    if manifest.sha256 != sha256:
        remedy = f"its SHA-256 is {manifest.sha256}, it was {sha256}: it is not stored; put the old contents back"
        raise InvalidInput("checkpoint", str(folder), remedy)
    base, parts = folder_of(sha256), manifest.parts
    on_sent(min(sent, len(parts)))
    there = await store.sizes(base)
    for first in range(min(sent, len(parts)), len(parts), AT_ONCE):
        batch = parts[first : first + AT_ONCE]
        await together(_send(store, base, folder, *one, there) for one in batch)
        on_sent(first + len(batch))
    for _ in range(LOOKS):
        await store.put(f"{base}/{MANIFEST}", manifest.model_dump_json(by_alias=True, indent=1).encode())
        # Somebody may have removed some of it meanwhile, because the same bytes were given up elsewhere.
        there = await store.sizes(base)
        lost = [one for one in parts if there.get(f"{base}/{one[2].object}") != one[2].bytes]
        if not lost and f"{base}/{MANIFEST}" in there:
            return
        for one in lost:
            await _send(store, base, folder, *one, {})
    raise StoreUnavailable(f"{store.url}/{base} is removed by somebody while it is sent; it is sent again later")


async def _send(
    store: Store, base: str, folder: Path, file: File, start: int, part: Part, there: dict[str, int]
) -> None:
    path = f"{base}/{part.object}"
    if there.get(path) == part.bytes and _sha256(await store.get(path) or b"") == part.sha256:
        return
    data = await asyncio.to_thread(_read, folder / file.name, start, part.bytes)
    if _sha256(data) != part.sha256:
        raise InvalidInput("checkpoint", str(folder), f"{file.name} was changed while it was sent")
    await store.put(path, data)


async def fetch(store: Store, sha256: str, target: Path) -> bool:
    """Have the checkpoint at ``target``, whole or not at all. False when it lay there already.

    Processes that fetch the same at once do it once. No file is believed before its hash was compared; our record
    (``checkpoint.json``) is as the store has it. One that breaks off begins anew.

    Raises:
        StoreDamaged: what the store holds of it is not it; names the object.
        StoreLacks: the store does not have it yet.
        StoreRefused, StoreUnavailable: see ``backends.store``.
        DiskFull: there is no room for it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        async with _alone(target):
            if target.is_dir():
                return False
            await _fetch(store, sha256, target)
            return True
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{target}: no room for a checkpoint from {store.url}; free some") from error
        raise


async def _fetch(store: Store, sha256: str, target: Path) -> None:
    base = folder_of(sha256)
    said = await store.get(f"{base}/{MANIFEST}")
    if said is None:
        raise StoreLacks(f"{store.url} does not have checkpoint {sha256[:12]} yet; the host that made it sends it")
    manifest = parse(said, f"{store.url}/{base}/{MANIFEST}", sha256)
    writing = target.with_name(f".{target.name}.fetched.writing")
    shutil.rmtree(writing, ignore_errors=True)  # of one that was killed: the lock is ours
    writing.mkdir()
    try:
        found = {file.name: await _write(store, base, file, writing) for file in manifest.files}
        if digest(found) != sha256:
            raise StoreDamaged(f"{store.url}/{base} is damaged: its files are not that checkpoint; {REPAIR}")
        if manifest.record is not None:
            (writing / RECORD).write_text(manifest.record)
        await asyncio.to_thread(_sync, *writing.iterdir(), writing)
        _rename(writing, target)  # not in a thread, which goes on where this is cancelled, and the lock is free then
        await asyncio.to_thread(_sync, target.parent)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


async def _write(store: Store, base: str, file: File, folder: Path) -> str:
    """Write a file from its parts. Returns its SHA-256."""
    total = hashlib.sha256()
    with (folder / file.name).open("wb") as stream:
        for first in range(0, len(file.parts), AT_ONCE):
            for data in await together(_part(store, base, part) for part in file.parts[first : first + AT_ONCE]):
                total.update(data)
                stream.write(data)
    if total.hexdigest() != file.sha256:
        raise StoreDamaged(f"{store.url}/{base}/{file.name} is damaged: it is not what was sent; {REPAIR}")
    return total.hexdigest()


async def _part(store: Store, base: str, part: Part) -> bytes:
    path = f"{base}/{part.object}"
    data = await store.get(path)
    if data is None:
        raise StoreDamaged(f"{store.url}/{path} is missing, and its checkpoint is said to be whole; {REPAIR}")
    if _sha256(data) != part.sha256:
        raise StoreDamaged(f"{store.url}/{path} is damaged: its SHA-256 is not {part.sha256}; {REPAIR}")
    return data


async def remove(store: Store, sha256: str, before: datetime) -> bool:
    """Take the checkpoint out of the store, its manifest first. False where that was written since ``before``.

    Who has just published the same bytes has its manifest written anew, and keeps them so.
    """
    path = f"{folder_of(sha256)}/{MANIFEST}"
    written = await store.modified(path)
    if written is not None and written > before:
        return False
    await store.delete([path])
    await store.clear(folder_of(sha256))
    return True


def _rename(writing: Path, target: Path) -> None:
    try:
        writing.rename(target)
    except OSError:
        if not target.is_dir():
            raise


@contextlib.asynccontextmanager
async def _alone(target: Path) -> AsyncIterator[None]:
    """Hold the target's lock, which ends with its process."""
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        yield


def _read(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(count)


def _sync(*paths: Path) -> None:
    """Have what was written there on disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
