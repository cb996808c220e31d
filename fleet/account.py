"""Who the servers run as: the user who starts them, or an account without rights when that is root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from rl.errors import InvalidSettings

DEFAULT = "nobody"


@dataclass(frozen=True)
class Account:
    """``name`` is None for a uid without a passwd entry. ``switch``: whether a child has to become it first."""

    name: str | None
    uid: int
    gid: int
    switch: bool

    def __str__(self) -> str:
        return self.name or f"uid {self.uid}"

    def may_enter(self, path: Path) -> bool:
        """Whether the mode bits let it reach ``path`` and search it, or execute it if it is a file."""
        return self.uid == 0 or all(self._may_search(part) for part in [path, *path.parents])

    def _may_search(self, part: Path) -> bool:
        status = part.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & 0o100)
        return bool(status.st_mode & (0o010 if status.st_gid == self.gid else 0o001))


def server_account(run_as: str | None) -> Account:
    """The account of the servers; ``run_as`` is ``RLFLEET_RUN_AS``.

    Raises:
        InvalidSettings: it names no account, or one that cannot be used.
    """
    return _lesser_account(run_as or DEFAULT) if os.geteuid() == 0 else _own_account(run_as)


def _own_account(run_as: str | None) -> Account:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = None
    if run_as not in (None, name):
        raise InvalidSettings("RLFLEET_RUN_AS", run_as, "only root can run servers as another account; unset it")
    return Account(name, os.geteuid(), os.getegid(), switch=False)


def _lesser_account(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        remedy = "there is no such account; name one that exists and is not root"
        raise InvalidSettings("RLFLEET_RUN_AS", name, remedy) from None
    if entry.pw_uid == 0:
        remedy = "Postgres refuses to run as root; name another account, such as nobody or postgres"
        raise InvalidSettings("RLFLEET_RUN_AS", name, remedy)
    return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
