"""Versions that ``rlfleet publish --later`` left to the fleet: brought to the Hub by that command, one after the other.

It runs in a process of its own, which ends with the worker, or after a time. A tick starts one, and a later tick writes
down why it failed; what it published it writes down itself, while nobody else can publish there. So nothing here ever
waits for the Hub. The command looks at what the Hub has: one that was killed is given again, and nothing is sent twice.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from celery.utils.log import get_task_logger

from rl.checkpoint_files import place_of
from rl.errors import InvalidSettings
from rl.secret_files import SECRETS
from tasks.stored import here
from worker.bounded import bounded
from worker.settings import settings

if TYPE_CHECKING:
    from db.publications import Publication

log = get_task_logger(__name__)

LIMIT_SECONDS: Final = 4 * 3600
"""What one publication may take, with merging; what was sent by then is not sent again."""
NEEDED: Final = ("DATABASE_URL", "REDIS_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""The secrets that the command gets."""
LONGEST_BYTES: Final = 1 << 20
"""So much of what it prints is read."""
SPEAKS: Final = "rlfleet: "
WRONG_INPUT: Final = 2
UNDER_WAY: Final = 3
"""With what the command ends where another publication goes to the repository, or what was asked for waits no more."""
MERGED_DAYS: Final = 7
"""So long merged weights are kept that nobody published."""


@dataclass(frozen=True)
class _Begun:
    """A publication that is on its way, and what it prints of errors."""

    one: Publication
    process: subprocess.Popen[bytes]
    err: IO[bytes]

    def close(self) -> None:
        """Let go of what it printed."""
        self.err.close()


_begun: list[_Begun] = []
"""What this process started and has not written down; at most one."""


def catch_up() -> str:
    """What became of the publication that was on its way, and which is now; empty where there is nothing to do.

    Raises:
        DatabaseUnavailable: the database went away.
    """
    said = []
    if _begun:
        if _begun[0].process.poll() is None:
            return f"hub: {_begun[0].one.version} is on its way"
        said.append(_write_down(_begun[0]))
        _begun.pop().close()
    with _alone() as lock:
        if lock is not None:
            _sweep(settings().state.resolve() / "publish")
            if (one := _next()) is not None:
                said.append(_begin(one, lock))
    return f"hub: {', '.join(said)}" if said else ""


def _next() -> Publication | None:
    """The first that is due, that this host has all for, and to whose repository nobody publishes."""
    from db import hub_lock, publications
    from db.session import transaction

    with transaction() as session:
        due = [one for one in publications.due(session) if all(map(_is_to_be_had, one.needs))]
        return next((one for one in due if hub_lock.holder(session, one.repository) is None), None)


def _is_to_be_had(folder: str) -> bool:
    from backends.settings import store_settings

    return Path(here(folder)).is_dir() or bool(store_settings().url and place_of(folder))


def _begin(one: Publication, lock: int) -> str:
    """Start the command, which holds the lock from now on."""
    from backends.settings import hub_settings

    try:
        hub_settings()
    except InvalidSettings as error:  # of this worker: what was asked for is not wrong
        _failed(one, str(error))
        return f"{one.version} failed"
    err = tempfile.TemporaryFile()  # noqa: SIM115 (read by a later tick)
    process = subprocess.Popen(
        bounded(LIMIT_SECONDS, "-m", "fleet", *_words(one)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=err,
        env=_environ(),
        start_new_session=True,
        pass_fds=(lock,),
    )
    _begun.append(_Begun(one, process, err))
    return f"{one.version} begun"


def _words(one: Publication) -> list[str]:
    options = one.options
    words = ["publish", one.version, f"--line={one.line}", f"--hub={one.repository}", f"--asked={one.asked}"]
    words += [f"--{name}" for name in ("private", "merged", "any") if options[name]]
    return [*words, f"--base={options['base']}"] if options["base"] else words


def _environ() -> dict[str, str]:
    """What the command may know: this worker's variables without secrets that it does not need."""
    others = {f"{name}{end}" for name in SECRETS if name not in NEEDED for end in ("", "_FILE")}
    return {name: value for name, value in os.environ.items() if name not in others} | {"USER": "mirror"}


def _write_down(begun: _Begun) -> str:
    """Say in its row what became of it, unless it was published: the command said so."""
    from db import publications
    from db.session import transaction

    one, code = begun.one, begun.process.returncode
    if code == 0:
        return f"{one.version} published"
    error = _error(code, begun.err)
    if code == UNDER_WAY:
        return f"{one.version} is on its way elsewhere"
    if code == WRONG_INPUT:
        log.error("%s is not published in %s: %s", one.version, one.repository, error)
        with transaction() as session:
            publications.refused(session, one, error)
        return f"{one.version} refused"
    _failed(one, error)
    return f"{one.version} failed"


def _failed(one: Publication, error: str) -> None:
    from db import publications
    from db.session import transaction

    log.warning("%s is not yet in %s: %s", one.version, one.repository, error)
    with transaction() as session:
        publications.failed(session, one, error)


def _error(code: int, err: IO[bytes]) -> str:
    """The command's own last words, which name no secret; of what something else printed nothing is told."""
    from backends.hub_errors import LATER

    if code < 0:
        return f"it took longer than {LIMIT_SECONDS} s" if code == -signal.SIGALRM else f"signal {-code} ended it"
    err.seek(max(0, err.seek(0, os.SEEK_END) - LONGEST_BYTES))
    _, spoke, words = f"\n{err.read().decode(errors='replace')}".rpartition(f"\n{SPEAKS}")
    return (
        " ".join(words.split()).removesuffix(LATER)
        if spoke
        else f"`rlfleet publish` ended with {code}: give it by hand"
    )


@contextmanager
def _alone() -> Iterator[int | None]:
    """A lock's descriptor where nothing is published from this host; None where something is.

    A host has memory for one merge. ``db.hub_lock`` keeps hosts from publishing to one repository at the same time.
    """
    state = settings().state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "hub.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock.fileno()


def _sweep(merged: Path) -> None:
    """Remove what ``fleet.publish`` merged, wholly or in part, and nobody came back for."""
    for path in [*merged.iterdir()] if merged.is_dir() else ():
        with suppress(OSError):  # it is being merged or published, is gone, or is somebody else's
            if not path.is_dir() or path.stat().st_mtime > time.time() - MERGED_DAYS * 86_400:
                continue
            with path.with_name(f"{path.name.lstrip('.').partition('.')[0]}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            log.info("%s was merged to be published, and is removed after %s days", path, MERGED_DAYS)
