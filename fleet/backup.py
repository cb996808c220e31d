"""`rlfleet backup` and `rlfleet restore`: the rows of one snapshot, and every folder of weights that they name.

The rows come first and the folders after, so that every folder which a row names is in the copy. A backup is a folder:

    manifest.json         what it holds: revision, rows of each table, sequences, SHA-256 of every file
    tables/NAME.copy.gz   the rows of a table, in COPY's text format
    artifacts/...         what lay below RLFLEET_ARTIFACTS
    elsewhere/N/...       folders that rows name and that lay somewhere else, such as a base model
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet import folders
from fleet.home import Home, home_path, read_endpoints, write_private
from fleet.postgres import holds_cluster
from fleet.servers import Servers
from fleet.terminal import NO_FLEET
from rl.errors import InvalidInput, StartError, StoreDamaged, StoreLacks

if TYPE_CHECKING:
    from db.backup import Dump

MANIFEST = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableCopy(_Part):
    """A table's stream: its columns in order, its rows, and the SHA-256 of its file."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str


class Artifact(_Part):
    """A folder that rows name by ``path``; in the backup it is ``kept``, with the SHA-256 of every file."""

    path: str
    kept: str
    files: dict[str, str]


class Manifest(_Part):
    """What a backup holds. ``missing`` are folders that rows name and that were not there any more."""

    version: Literal[1] = Field(1, alias="schema")
    made_at: datetime
    revision: str
    root: str
    tables: tuple[TableCopy, ...]
    sequences: dict[str, int]
    artifacts: tuple[Artifact, ...]
    missing: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


@contextmanager
def database(environ: Mapping[str, str], *, create: bool = False) -> Iterator[Path]:
    """Point this process at the database, and yield the root of the artifacts.

    The database is that of ``DATABASE_URL``, else that of the fleet which runs here, else the home's own, whose
    servers run for as long as the block does; a home that has none gets one with ``create`` alone.

    Raises:
        StartError: the home's servers cannot be started, or it has none.
    """
    from db.session import dispose

    if environ.get("DATABASE_URL"):
        yield _root(environ, Path(".state"))
        dispose()
        return
    home = home_path(environ)
    if found := read_endpoints(home):
        os.environ["DATABASE_URL"] = found.database_url
        yield _root(environ, home)
        dispose()
        return
    if not create and not holds_cluster(home):
        raise StartError(NO_FLEET)
    with Home.open(environ) as opened:
        servers = Servers(opened, environ)
        try:
            os.environ["DATABASE_URL"] = servers.start().database_url
            yield _root(environ, home)
            dispose()
        finally:
            servers.stop()


def backup(target: Path, root: Path) -> Manifest:
    """Write the backup ``target``, whole or not at all. The fleet may go on working meanwhile.

    Raises:
        InvalidInput: ``target`` exists or cannot be written, or the database has no schema of ours.
        DatabaseUnavailable: the server cannot be reached, refuses the password, or went away.
        StoreUnavailable, StoreRefused: a folder lies in the store alone, which is away or refuses us.
        DiskFull: there is no room for it.
    """
    from db import backup as rows

    if target.exists():
        raise InvalidInput("folder", str(target), "it exists; name a new folder, a backup is never overwritten")
    partial = target.with_name(f".{target.name}.{os.getpid()}.writing")
    try:
        (partial / "tables").mkdir(parents=True)
        partial.chmod(0o700)
        dumped = rows.dump(lambda name: _writing(_file(partial, name)))
        manifest = _manifest(partial, root, dumped)
        write_private(partial / MANIFEST, manifest.model_dump_json(indent=1, by_alias=True))
        partial.rename(target)
    except OSError as error:
        raise folders.named(error, target) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def restore(source: Path, root: Path) -> Manifest:
    """Fill an empty database and put the folders back; afterwards the fleet can start where the backup was taken.

    What lay below the backup's root of artifacts lies below ``root`` now, and the rows name it there; any other
    folder is where it was. Everything is checked before anything is written, and rows become visible last.

    Raises:
        InvalidInput: ``source`` is no backup or was changed, the database has rows, or this code is too old for it.
        DatabaseUnavailable: the server cannot be reached, refuses the password, or went away.
        DiskFull: there is no room for the folders.
    """
    from db import backup as rows

    manifest = read_manifest(source)
    rows.check_empty(manifest.revision)
    try:
        _check(source, manifest)
        for one in manifest.artifacts:
            folders.put_back(source / one.kept, _place(one, root), one.files)
    except OSError as error:
        raise folders.named(error, root) from error
    moved = (manifest.root, str(root)) if manifest.root != str(root) else None
    rows.load(_dump(manifest), lambda name: _reading(_file(source, name)), moved)
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What the backup says it holds.

    Raises:
        InvalidInput: ``source`` is no backup.
    """
    try:
        return Manifest.model_validate_json((source / MANIFEST).read_text())
    except (OSError, ValidationError) as error:
        why = f"{MANIFEST} is missing or unreadable" if isinstance(error, OSError) else f"{MANIFEST} is not ours"
        raise InvalidInput(
            "folder", str(source), f"this is no backup ({why}); name what `rlfleet backup` wrote"
        ) from None


def _root(environ: Mapping[str, str], state: Path) -> Path:
    return Path(environ.get("RLFLEET_ARTIFACTS") or state / "artifacts").resolve()


def _file(folder: Path, table: str) -> Path:
    return folder / "tables" / f"{table}.copy.gz"


@contextmanager
def _writing(file: Path) -> Iterator[BinaryIO]:
    with gzip.open(file, "wb", compresslevel=3) as stream:
        yield cast("BinaryIO", stream)
    file.chmod(0o600)
    folders.sync(file)


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    with gzip.open(file, "rb") as stream:
        yield cast("BinaryIO", stream)


def _manifest(partial: Path, root: Path, dumped: Dump) -> Manifest:
    """Keep the folders that the rows name, and say what is there."""
    artifacts, missing = [], []
    for number, path in enumerate(dumped.folders):
        folder = _at_hand(path)
        if folder is None:
            missing.append(path)
            continue
        inside = folder.is_relative_to(root)
        kept = Path("artifacts") / folder.relative_to(root) if inside else Path("elsewhere") / str(number)
        files = folders.keep(folder, partial / kept)
        if files is None:
            missing.append(path)
        else:
            artifacts.append(Artifact(path=path, kept=str(kept), files=files))
    return Manifest(
        made_at=datetime.now(UTC),
        revision=dumped.revision,
        root=str(root),
        tables=tuple(
            TableCopy(**vars(table), sha256=folders.sha256_of(_file(partial, table.name))) for table in dumped.tables
        ),
        sequences=dumped.sequences,
        artifacts=tuple(artifacts),
        missing=tuple(missing),
    )


def _check(source: Path, manifest: Manifest) -> None:
    folders.check(source / "tables", {f"{table.name}.copy.gz": table.sha256 for table in manifest.tables})
    for one in manifest.artifacts:
        folders.check(source / one.kept, one.files)


def _at_hand(path: str) -> Path | None:
    """The folder on this host, fetched from the store where it is not here; None where it is nowhere."""
    from tasks.stored import at_hand, here

    try:
        folder = Path(at_hand(path, patience=0))
    except (InvalidInput, StoreDamaged, StoreLacks):  # of this folder, or of one that it rests on
        folder = Path(here(path))
    return folder if folder.is_dir() else None


def _place(one: Artifact, root: Path) -> Path:
    """Where the folder goes: below ``root`` if it lay below the backup's, on the host that made the backup."""
    kept = Path(one.kept)
    return root / kept.relative_to("artifacts") if kept.is_relative_to("artifacts") else Path(one.path)


def _dump(manifest: Manifest) -> Dump:
    from db.backup import Dump, Table

    tables = tuple(Table(table.name, table.columns, table.rows) for table in manifest.tables)
    return Dump(manifest.revision, tables, manifest.sequences, tuple(one.path for one in manifest.artifacts))
