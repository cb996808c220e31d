"""Having a checkpoint on this host: where its folder is here, fetched from the artifact store where it is not.

Rows name folders by the path they had where they were trained; below ``jobs/`` every host's artifacts are laid out the
same. ``python -m tasks.stored URI`` does it for a process that has neither database nor store, such as a device's
child, and prints where the folder is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.checkpoint_files import place_of
from rl.errors import InvalidInput, RlfleetError, StoreDamaged, StoreLacks, StoreUnavailable
from worker.settings import settings

if TYPE_CHECKING:
    from db.stored import Placed
    from tasks.carry import Lease

log = get_task_logger(__name__)

AGAIN_SECONDS = 2.0
LACKING_SECONDS = 10.0
"""How long one attempt of a job asks: another host may have the folder, and be free."""


def here(path: str) -> str:
    """Where on this host the folder is, or will be, that a row calls ``path``; what is no checkpoint's as it is."""
    place = place_of(path)
    if place is None or Path(path).is_dir():
        return path
    mine = settings().artifacts.resolve() / place
    return str(mine) if mine.is_dir() or _url() else path


def at_hand(path: str, lease: Lease | None = None, patience: float | None = None) -> str:
    """The folder on this host of the checkpoint that a row calls ``path``; see ``fetched``. ``lease`` is renewed.

    ``patience`` is how many seconds a store is asked that is away or lacks it.
    """
    if place_of(path) is None:
        return path
    work = fetched(path, patience)
    return asyncio.run(lease.during(work) if lease else work)


async def fetched(path: str, patience: float | None = None) -> str:
    """The folder on this host of the checkpoint that a row calls ``path``, and of the one of ours that it rests on.

    What is not here is fetched; a store that is away or lacks it is asked again for so long. Of a folder
    that is no checkpoint of ours, and where no store is set, only its path: who opens it says that it is not there.

    Raises:
        InvalidInput: retention gave the checkpoint up, and it is not here.
        StoreUnavailable: the store does not have it yet, or is away.
        StoreRefused: the store refuses us, or what it has is damaged; then it is to be sent again.
        DatabaseUnavailable: the database went away.
        DiskFull: there is no room for it.
    """
    rows: dict[str, Placed] = {}
    wanted = path
    while _url() and place_of(wanted) and wanted not in rows:
        row = await asyncio.to_thread(_row, wanted)
        if row is None:
            break
        rows[wanted] = row
        wanted = row.base_uri
    for row in reversed(rows.values()):  # what it rests on first: a folder that is there can be used
        await _have(row, LACKING_SECONDS if patience is None else patience)
    return here(path)


def _url() -> str:
    from backends.settings import store_settings

    return store_settings().url


def _row(path: str) -> Placed | None:
    from db import stored
    from db.session import transaction

    with transaction() as session:
        return stored.placed(session, path)


async def _have(row: Placed, patience: float) -> None:
    """Fetch the checkpoint unless it is here."""
    from backends import checkpoints
    from backends.store import Store

    target, deadline = Path(here(row.uri)), time.monotonic() + patience
    if target.is_dir():
        return
    if row.is_removed:
        remedy = "retention gave it up, and it is not on this host; `rlfleet reproduce` trains it again"
        raise InvalidInput("checkpoint", row.uri, remedy)
    while True:
        try:
            if await checkpoints.fetch(Store(_url()), row.sha256, target):
                log.info("%s was fetched from %s", target, _url())
            return
        except StoreDamaged:
            await asyncio.to_thread(_doubt, row.sha256)
            raise
        except StoreUnavailable as error:
            if time.monotonic() + AGAIN_SECONDS > deadline:
                if isinstance(error, StoreLacks):
                    await asyncio.to_thread(_doubt, row.sha256)
                raise
        await asyncio.sleep(AGAIN_SECONDS)


def _doubt(sha256: str) -> None:
    """Have it stored again by whoever has the folder."""
    from db import stored
    from db.session import transaction

    with transaction() as session:
        stored.doubt(session, sha256)


def main(argv: list[str]) -> int:
    """The command line. It ends with whoever started it: then its standard input does."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        sys.stdout.write(f"{at_hand(argv[0])}\n")
    except RlfleetError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _end_with_input() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock the end of the interpreter would wait for
        pass
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
