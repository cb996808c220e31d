"""Copies of folders with the SHA-256 of every file: written whole, checked before they are used."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rl.errors import DiskFull, InvalidInput

CHUNK_BYTES = 1 << 20


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's contents."""
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


def files_of(folder: Path) -> dict[str, str]:
    """Each file below ``folder``, by its path in there, with its SHA-256."""
    return {str(file.relative_to(folder)): sha256_of(file) for file in _walk(folder)}


def keep(source: Path, target: Path) -> dict[str, str] | None:
    """Have ``source`` at ``target`` too, and return what ``files_of`` says of it.

    Files are hard links where the file system has them, since weights are written once and then only renamed or
    removed; else copies. None, and nothing at ``target``, when ``source`` is removed meanwhile, as a training does with
    its older saved states.
    """
    made: list[Path] = []
    try:
        files = list(_walk(source))
        for file in files:
            there = target / file.relative_to(source)
            if not there.exists():  # else a folder below another one that was kept
                made.append(there)
                _link_or_copy(file, there)
        whole = bool(files) and list(_walk(source)) == files
    except FileNotFoundError:
        whole = False
    if not whole:
        _unmake(made, target)
        return None
    return files_of(target)


def _link_or_copy(file: Path, there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), there)  # a model hub's cache is made of links
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copyfile(file, there)
        sync(there)


def _unmake(made: list[Path], target: Path) -> None:
    """Remove these files, and the folders up to ``target`` that are empty then."""
    for file in made:
        file.unlink(missing_ok=True)
    for folder in sorted({target, *(parent for file in made for parent in file.parents)}, reverse=True):
        if folder.is_relative_to(target) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def put_back(source: Path, target: Path, files: dict[str, str]) -> bool:
    """Copy ``source`` to ``target``, whole or not at all. False when it lies there already.

    Raises:
        InvalidInput: something else lies at ``target``.
    """
    if target.exists():
        if files_of(target) != files:
            raise InvalidInput("folder", str(target), "it holds something else than the backup; move it away")
        return False
    partial = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in files:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, partial / name)
        sync(partial / name)
    partial.rename(target)
    return True


def check(folder: Path, files: dict[str, str]) -> None:
    """Make sure that every one of ``files`` lies in ``folder`` with its contents.

    Raises:
        InvalidInput: one is missing or another.
    """
    for name, sha256 in files.items():
        file = folder / name
        if not file.is_file():
            raise InvalidInput("backup", f"{folder.name}/{name}", "this file is missing; the backup cannot be used")
        if sha256_of(file) != sha256:
            raise InvalidInput(
                "backup", f"{folder.name}/{name}", "its contents have changed since; the backup cannot be used"
            )


def sync(file: Path) -> None:
    """Have the file's contents on disk before its name counts."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def named(error: OSError, folder: Path) -> DiskFull | InvalidInput:
    """The error to raise when ``folder`` cannot be written or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{folder}: no room left on its disk; make some, or choose a folder on another one")
    return InvalidInput("folder", str(error.filename or folder), f"cannot be used: {error.strerror or error}")


def _walk(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())
