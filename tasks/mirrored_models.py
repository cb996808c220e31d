"""Models that are to be copied elsewhere and do not lie on this host: fetched from the artifact store, one at a time.

A process of its own fetches, which ends with the worker or after a time, so that no tick waits for it: the copy is put
off and tried again like one that failed, and finds the folder then.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from rl.errors import StoreUnavailable
from worker.bounded import bounded

if TYPE_CHECKING:
    from backends.sinks import Model, Run

LIMIT_SECONDS: Final = 3600
LONGEST_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class _Fetch:
    """A process that fetches ``folder``; it ends when its input does."""

    folder: str
    process: subprocess.Popen[bytes]
    err: IO[bytes]


_begun: list[_Fetch] = []
"""What this process started last; at most one."""


def see_to(run: Run) -> None:
    """Have the models of ``run`` on this host.

    Raises:
        StoreUnavailable: one of them is not here; says whether it is being fetched, or why it is not.
    """
    from backends.settings import store_settings

    for model in run.models:
        if model.folder.is_dir():
            continue
        if not store_settings().url:
            where = "have its folder on the hosts of maint workers, or set RLFLEET_STORE"
            raise StoreUnavailable(f"{model.name} is not sent: {model.folder} is not on this host; {where}")
        raise StoreUnavailable(f"{model.name} is not sent yet: {_fetched(model)}")


def _fetched(model: Model) -> str:
    """What the store is asked for, or said."""
    folder = str(model.folder)
    if _begun and _begun[0].process.poll() is None:
        return "it is being fetched from the store" if _begun[0].folder == folder else "another one is being fetched"
    if _begun:
        ended = _begun.pop()
        with ended.process, ended.err:
            if ended.folder == folder:
                return _error(ended)
    err = tempfile.TemporaryFile()  # noqa: SIM115 (read by a later tick)
    argv = bounded(LIMIT_SECONDS, "-m", "tasks.stored", folder)
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=err, env=dict(os.environ), start_new_session=True
    )
    _begun.append(_Fetch(folder, process, err))
    return "it is being fetched from the store"


def _error(ended: _Fetch) -> str:
    ended.err.seek(max(0, ended.err.seek(0, os.SEEK_END) - LONGEST_BYTES))
    lines = [line.strip() for line in ended.err.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"fetching it from the store ended with {ended.process.returncode}"
