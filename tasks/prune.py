"""Prune: remove rows nobody looks at any more, and folders of artifacts that no row points to."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from celery.utils.log import get_task_logger

from worker.app import app
from worker.crash import crash_point
from worker.settings import settings

log = get_task_logger(__name__)

FOLDER_DAYS = 7
TEMPORARY_DAYS = 1
BUDGET_SECONDS = 20.0
"""A pass longer than this goes on in another message, because the queue is shared with the reconciler."""
CHUNK = 500
"""Jobs whose rows are looked at together."""


@dataclass(frozen=True)
class Found:
    """What one attempt of a job left on disk."""

    job_id: int
    fence: int
    path: Path


@app.task(name="rlfleet.prune", time_limit=300)
def prune(period_seconds: int = 0) -> str:
    """Remove old rows, old trajectories and old folders. With a period, only the first of that tick does."""
    from db import prune as rows
    from db.slots import take_slot
    from tasks import storing

    if period_seconds and not take_slot("prune", period_seconds):
        return "prune: this tick is taken"
    deadline = time.monotonic() + BUDGET_SECONDS
    counts = ", ".join(f"{count} {table}" for table, count in rows.old_rows().items())
    kept, all_kept = rows.old_trajectories(deadline)
    counts += "".join(f", {count} {name}" for name, count in kept.items() if count)
    gone, all_gone = sweep_refused()
    counts += f", {gone} refused trajectories" if gone else ""
    steps, all_given_up = give_up_checkpoints(deadline)
    counts += f", {steps} checkpoints" if steps else ""
    crash_point("before-folders", "prune")
    removed, over = remove_folders(settings().artifacts.resolve(), deadline)
    objects, all_removed = storing.sweep(deadline)  # last: a store that hangs holds up nothing on this disk
    counts += f", {objects} checkpoints from the store" if objects else ""
    if not (all_kept and all_given_up and all_removed) or (removed and not over) or (gone and not all_gone):
        prune.apply_async(expires=3600)
    all_done = over and all_kept and all_gone and all_given_up and all_removed
    return f"removed {counts}, {removed} folders{'' if all_done else '; more follow'}"


def give_up_checkpoints(deadline: float) -> tuple[int, bool]:
    """Give up the checkpoints that no version needs, until ``deadline``. How many, and whether all were looked at.

    Their folders go with the others that may go: those of marked rows are removed in this pass or the next.
    """
    from db import checkpoints

    given_up = 0
    for one in checkpoints.give_up():
        log.info("%s: the checkpoints of steps %s are not needed", one.version, ", ".join(map(str, one.steps)))
        given_up += len(one.steps)
        if time.monotonic() > deadline:
            return given_up, False
    return given_up, True


def sweep_refused() -> tuple[int, bool]:
    """Erase what is stored of trajectories without consent. How many went, and whether all were tried.

    What fails here is looked for again by the next pass, and holds up nothing else.
    """
    from db import withdrawals

    try:
        remove = partial(remove_dataset_files, settings().artifacts.resolve())
        done = withdrawals.sweep(remove, time.monotonic() + BUDGET_SECONDS)
    except Exception:  # the database's, or of a file that cannot be removed
        log.exception("what is stored without consent was not erased; the next pass tries again")
        return 0, True
    for why in done.waiting:
        log.warning("trajectories without consent stay until later: %s", why)
    return done.gone, done.is_over


def remove_folders(artifacts: Path, deadline: float) -> tuple[int, bool]:
    """Remove what may go until ``deadline`` (monotonic seconds); how many folders, and whether none is left.

    Only ``jobs/<job>/fence-<fence>`` is looked at, and only where the job's row is there: a database that was
    restored from an older copy does not know the newest jobs.
    """
    removed = 0
    found = list(_attempts(artifacts / "jobs"))
    for start in range(0, len(found), CHUNK):
        for path in _unneeded(found[start : start + CHUNK]):
            if time.monotonic() > deadline:
                return removed, False
            removed += _remove(path)
    for job in {one.path.parent for one in found}:
        _remove_if_empty(job)
    return removed, True


def would_remove(artifacts: Path) -> list[Path]:
    """What ``remove_folders`` would remove now; nothing changes."""
    found = list(_attempts(artifacts / "jobs"))
    chunks = (found[start : start + CHUNK] for start in range(0, len(found), CHUNK))
    return [path for chunk in chunks for path in _unneeded(chunk, forgets=False)]


def _remove_if_empty(job: Path) -> None:
    """Remove the folder of a job unless something lies in it; a new attempt may make its own at this moment."""
    try:
        job.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            log.warning("%s cannot be removed: %s", job, error.strerror)


def _in(folder: Path) -> list[Path]:
    """What lies in ``folder``, by name; nothing when it is gone: another pass may remove it at this moment."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _attempts(jobs: Path) -> Iterator[Found]:
    for job in _in(jobs):
        if not job.name.isascii() or not job.name.isdigit() or job.is_symlink() or not job.is_dir():
            continue
        for path in _in(job):
            if (match := re.fullmatch(r"fence-([0-9]{1,18})", path.name)) and path.is_dir() and not path.is_symlink():
                yield Found(int(job.name), int(match[1]), path)


def _unneeded(attempts: list[Found], *, forgets: bool = True) -> list[Path]:
    """What may be removed of these attempts: whole folders, checkpoints, saved states, temporaries.

    Rows forget the states that may go, unless this only looks.
    """
    from db import checkpoints, erasure, prunable
    from db import prune as rows

    ids = sorted({one.job_id for one in attempts})
    textless = erasure.without_files(ids)
    over, idle = rows.ended(ids), rows.not_running(ids)
    without_state = rows.forget_states(ids) if forgets else prunable.without_state(ids)
    named, given_up, steps = rows.named_folders(), checkpoints.removed_folders(ids), rows.steps_named(ids)
    paths: list[Path] = []
    for one in attempts:
        if one.job_id in over and (one.job_id, one.fence) not in named and _is_older(one.path, FOLDER_DAYS):
            paths.append(one.path)
            continue
        folders = (one.path / name for name in given_up.get((one.job_id, one.fence), ()))
        paths += [path for path in folders if path.is_dir() and not path.is_symlink()]
        if one.job_id in over:
            paths += [path for path in _written_again(one, steps) if _is_older(path, FOLDER_DAYS)]
        if one.job_id in textless:
            paths += dataset_files(one.path)
        if one.job_id in without_state:
            paths += [path for path in one.path.glob("state-*") if path.is_dir() and not path.is_symlink()]
        if one.job_id in idle:
            paths += [path for path in one.path.glob("*.writing") if _is_older(path, TEMPORARY_DAYS)]
    return paths


def _written_again(attempt: Found, steps: Mapping[tuple[int, str], Set[int]]) -> list[Path]:
    """Checkpoints of an attempt that a later one, which went on from a state before them, wrote in its own folder."""
    found = [(path, steps.get((attempt.job_id, path.name), ())) for path in attempt.path.glob("step-*")]
    again = [path for path, fences in found if fences and attempt.fence not in fences]
    return [path for path in again if path.is_dir() and not path.is_symlink()]


def dataset_files(attempt: Path) -> list[Path]:
    """The file of an attempt that holds what trajectories said, if it is there."""
    from tasks.frozen import DATASET

    path = attempt / DATASET
    return [path] if path.is_file() and not path.is_symlink() else []


def remove_dataset_files(artifacts: Path, job_ids: Sequence[int]) -> int:
    """Remove the dataset files of all attempts of these jobs; how many there were.

    Raises:
        OSError: one cannot be removed.
    """
    attempts = (attempt for job in job_ids for attempt in _in(artifacts / "jobs" / str(job)))
    removed = 0
    for path in (path for attempt in attempts for path in dataset_files(attempt)):
        path.unlink(missing_ok=True)
        removed += 1
    return removed


def _is_older(path: Path, days: float) -> bool:
    """Whether nothing in the folder (itself and one level below) was changed for so many days.

    A folder in which something vanishes meanwhile is one that somebody works in.
    """
    try:
        newest = max(one.lstat().st_mtime for one in (path, *(path.iterdir() if path.is_dir() else ())))
    except FileNotFoundError:
        return False
    return bool(newest < time.time() - days * 86_400)


def _remove(path: Path) -> int:
    """1 if it is gone afterwards. What cannot be removed stays for the next pass, and for a person to read of."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        if not os.path.lexists(path):  # another pass was faster
            return 1
        log.warning("%s cannot be removed: %s", path, error.strerror)
        return 0
    return 1
