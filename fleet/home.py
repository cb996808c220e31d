"""The home directory of the fleet on one machine: its lock, its secrets, and where everything else lies.

```
.lock              held by the supervisor and by everything it started; its text is the supervisor's pid
endpoints.json     where the servers are, while they are up
processes.json     what each process does, while a supervisor lives
postgres.password  valkey.password  flower.password  engine.key
pg/<major>/        one Postgres cluster
valkey/            the append-only file
logs/<name>.log    output of each process
gateway/           calls that the gateway captured and the database has not taken yet
dist/              server binaries, copied here when their account cannot reach them where they are
```
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from platformdirs import user_state_path

from fleet.account import Account
from rl.errors import StartError

SCHEMA = 1
ROOTS_HOME = Path("/var/lib/rlfleet")


@dataclass(frozen=True)
class Endpoints:
    """Where the servers are. Both URLs carry a password, so neither is shown by ``repr``.

    ``gateway_url`` is where agents are answered, without ``/v1``, ``admin_url`` and ``flower_url`` what people look at;
    None where only the servers run.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    gateway_url: str | None = None
    admin_url: str | None = None
    flower_url: str | None = None


def home_path(environ: Mapping[str, str]) -> Path:
    """``RLFLEET_HOME``; else ``/var/lib/rlfleet`` for root, and the user's state directory for anyone else."""
    # Not with the other settings: one of them that cannot be used must not keep anybody from `rlfleet down`.
    if chosen := environ.get("RLFLEET_HOME"):
        return Path(chosen).expanduser().resolve()
    return ROOTS_HOME if os.geteuid() == 0 else user_state_path("rlfleet")


def read_endpoints(path: Path) -> Endpoints | None:
    """The endpoints of the fleet that runs in the home ``path``; None when none does."""
    try:
        stored = json.loads((path / "endpoints.json").read_text())
    except FileNotFoundError:
        return None
    pid = stored["pid"]
    if pid != _held_by(path) or not is_alive(pid):
        return None
    return Endpoints(**{one.name: stored.get(one.name) for one in fields(Endpoints)})


def holder(environ: Mapping[str, str]) -> int | None:
    """The pid of the supervisor whose fleet runs in this environment's home; None when nothing of it does.

    While the last of its processes end, it is the pid of a supervisor that is gone already.

    Raises:
        StartError: the home is another user's.
    """
    return _held_by(home_path(environ))


class Home:
    """One fleet's directory, held for as long as this process or anything that it started lives.

    Existing directories keep their mode, and nothing above the home is touched. Valkey has no lock of its
    own: without this one, two servers would write the same append-only file.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        """The lock's descriptor. Passed to every child, so that none outlives the lock."""

    @classmethod
    def open(cls, environ: Mapping[str, str], wait_seconds: float = 60.0) -> Self:
        """Create the home where it is missing and take its lock.

        Waits up to ``wait_seconds`` for what a killed supervisor left to end.

        Raises:
            StartError: a live supervisor holds the home, the wait was too short, or the home cannot be used.
        """
        path = home_path(environ)
        try:
            make_home(path)
            descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise cannot_use(path, error) from error
        home = cls(path, descriptor)
        try:
            _lock(path, descriptor, time.monotonic() + wait_seconds)
            home.remove_endpoints()
        except OSError as error:
            home.close()
            raise cannot_use(path, error) from error
        except BaseException:
            home.close()
            raise
        return home

    def close(self) -> None:
        """Let go of the lock: an explicit unlock would also take it from children that still run."""
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        folder = self.path / "logs"
        _create(folder, 0o700)
        return folder

    def folder(self, name: str, account: Account) -> Path:
        """A private folder of ``account``, created where it is missing.

        Raises:
            StartError: the account cannot get there, or the folder is another's.
        """
        folder = self.path / name
        if not account.may_enter(self.path):
            raise StartError(
                f"{account} cannot enter {self.path}: set RLFLEET_HOME to a folder that it can enter, "
                f"such as {ROOTS_HOME}, or RLFLEET_RUN_AS to an account that can enter this one"
            )
        if not folder.exists():
            _create(folder, 0o700)
            if account.switch:
                os.chown(folder, account.uid, account.gid)
        if folder.stat().st_uid != account.uid:
            raise StartError(
                f"{folder} belongs to uid {folder.stat().st_uid}, but the servers run as {account}: "
                f"set RLFLEET_RUN_AS to its owner, or run `chown -R {account.uid}:{account.gid} {folder}`"
            )
        return folder

    def secret(self, name: str) -> str:
        """The random text in the file ``name``, made on first use.

        Raises:
            StartError: somebody else owns or can read the file.
        """
        file = self.path / name
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        status = file.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise StartError(f"{file} must be readable by uid {os.geteuid()} alone: chown it, and chmod it to 600")
        return file.read_text()

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Say where the servers are, in a file that only this user can read."""
        urls = asdict(endpoints)
        write_private(self.path / "endpoints.json", json.dumps({"schema": SCHEMA, "pid": os.getpid(), **urls}))

    def remove_endpoints(self) -> None:
        """Say that no server is up."""
        (self.path / "endpoints.json").unlink(missing_ok=True)


def make_home(path: Path) -> None:
    """Create the home where it is missing; the accounts of root's servers may pass through it."""
    _create(path, 0o711 if os.geteuid() == 0 else 0o700)


def write_private(file: Path, text: str) -> None:
    """Write ``file`` whole or not at all, with mode 0600."""
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    temporary.rename(file)


def runs_already(pid: int) -> StartError:
    """The error to raise when the fleet of process ``pid`` holds the home."""
    return StartError(
        f"a fleet runs here (pid {pid}): `rlfleet status` says how it is, `rlfleet down` ends it; "
        "RLFLEET_HOME names a folder for another one"
    )


def cannot_use(path: Path, error: OSError) -> StartError:
    """The error to raise when ``path`` cannot be written."""
    if error.errno == errno.ENOSPC or "No space left on device" in str(error):
        return disk_full(path)
    return StartError(f"{path} cannot be used ({error.strerror or error}): set RLFLEET_HOME to a folder of your own")


def disk_full(path: Path) -> StartError:
    """The error to raise when there is no room left for ``path``."""
    left = os.statvfs(path)
    free = f"{left.f_bavail * left.f_frsize / 2**20:.0f} MiB and {left.f_favail} files free"
    return StartError(f"there is no room left on the disk that holds {path} ({free}): make some, or move RLFLEET_HOME")


def _create(path: Path, mode: int) -> None:
    for folder in reversed([path, *path.parents]):
        try:
            folder.mkdir()
        except OSError:
            if folder.is_dir():
                continue
            raise
        folder.chmod(mode)


def _lock(path: Path, descriptor: int, deadline: float) -> None:
    while not _try_lock(descriptor):
        holder = _holder(descriptor)
        if holder and is_alive(holder):
            raise runs_already(holder)
        if time.monotonic() > deadline:
            raise StartError(
                f"{path} is still held by what process {holder}, which is gone, has started: "
                f"wait, or find it with `fuser {path / '.lock'}` and end it"
            )
        time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _held_by(path: Path) -> int | None:
    """The pid in the lock file of the home ``path``; None when nobody holds it.

    The pid alone would not do: after a crash another process may have the same one.
    """
    try:
        descriptor = os.open(path / ".lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_use(path, error) from error
    try:
        # Shared, so that two who ask at the same moment do not take each other for a fleet.
        return None if _try_lock(descriptor, fcntl.LOCK_SH) else _holder(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int:
    """The pid in the lock file; 0 while its holder has not written it."""
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.isdigit() else 0


def is_alive(pid: int) -> bool:
    """Whether there is a process ``pid``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
