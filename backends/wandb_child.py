"""The process that copies runs to Weights & Biases: one after the other, each with a time limit, until none waits.

A run is recorded on this machine first, whole, from its first step on, and the recording is sent. W&B numbers the lines
of a run's history, so sending a run again writes the same lines in the same places: a copy that was killed anywhere
doubles no step. What the service has then is asked of it (``backends.wandb_service``).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backends.wandb_orders import job_of, read, those_in, write
from backends.wandb_service import NotCopied, confirm, refusal, unusable

PR_SET_PDEATHSIG = 1
RECORD_SECONDS: Final = 300.0


def main(folder: Path, parent: int, to: Mapping[str, str | None]) -> None:
    """Carry out every order in ``folder`` that goes ``to`` that server, entity and project, for which the key is.

    Another process that does so has the lock, and then this one ends.
    """
    die_with(parent)
    for name in ("orders", "working", "arrived", "runs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        away: dict[str, str] = {}
        while (path := _next(folder, to)) is not None:
            _say(folder, path.name, *_carried_out(folder, path, to, away))
            path.unlink(missing_ok=True)


def _carried_out(
    folder: Path, path: Path, to: Mapping[str, str | None], away: dict[str, str]
) -> tuple[Mapping[str, Any] | None, str | None]:
    """The mark of the order, where it can be known, and why the run is not there, if it is not."""
    job = job_of(path)
    mark: Mapping[str, Any] | None = None if job is None else {"job": job, "key": path.stem}
    try:
        order = json.loads(path.read_bytes())
        mark = order["mark"]
        if not _goes(order, to):  # another worker replaced it between the look at it and its move
            raise NotCopied("it was not sent: its order is of another server, entity or project; see that all have one")
        _carry_out(folder, path, order, away)
    except (NotCopied, OSError) as reason:
        return mark, str(reason)
    except Exception as reason:  # an order that nothing can be made of must not come again and again at once
        traceback.print_exc()
        return mark, f"it was not copied ({type(reason).__name__}); see {folder / 'child.log'}"
    return mark, None


def _say(folder: Path, name: str, mark: Mapping[str, Any] | None, error: str | None) -> None:
    """Leave word of what became of an order; of one that nobody can be told about there is none."""
    if mark is not None:
        write(folder / "arrived" / name, {"mark": mark, "error": error})


def die_with(parent: int) -> None:
    """Be killed when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def _next(folder: Path, to: Mapping[str, str | None]) -> Path | None:
    """The oldest order that waits and goes there, which nobody replaces then; also one that nothing can be made of."""
    waiting = sorted(those_in(folder / "orders"), key=lambda path: path.stat().st_mtime)
    for path in waiting:
        order = read(path)
        if not order or _goes(order, to):
            return path.rename(folder / "working" / path.name)
    return None


def _goes(order: Mapping[str, Any], to: Mapping[str, str | None]) -> bool:
    return all(name in order and order[name] == value for name, value in to.items())


def _carry_out(folder: Path, path: Path, order: Mapping[str, Any], away: dict[str, str]) -> None:
    """Raises ``NotCopied``: says why. ``away`` gets what a service that cannot be used said, for the other orders."""
    url, run = order["url"], folder / "runs" / order["key"]
    if url is not None:
        if url not in away:
            away[url] = unusable(url)
        if away[url]:
            raise NotCopied(away[url])
    place = run / str(time.time_ns())
    place.mkdir(parents=True)
    code, said = _run("record", path, place, RECORD_SECONDS, url)
    if code != 0:
        shutil.rmtree(place, ignore_errors=True)
        raise NotCopied(f"it was not recorded ({said})")
    for other in run.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    if url is None:
        return
    code, said = _run("sync", path, place, float(order["seconds"]), url)
    if code != 0:
        raise NotCopied(f"it was not sent ({said})")
    if said := refusal(place):
        raise NotCopied(f"it was not sent whole ({said})")
    confirm(url, order)
    shutil.rmtree(run, ignore_errors=True)


def _run(what: str, order: Path, place: Path, seconds: float, url: str | None) -> tuple[int, str]:
    """Exit status and last line of the process that has wandb; it is killed with all that it started after ``seconds``.

    The service's key is with the one that sends. What the client leaves where it is started is below ``place`` too.
    """
    environ = {name: value for name, value in os.environ.items() if what == "sync" or name != "WANDB_API_KEY"}
    environ |= {f"WANDB_{name}_DIR": str(place / name.lower()) for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    environ |= {"WANDB_DIR": str(place)} | ({"WANDB_BASE_URL": url} if url else {})
    argv = [sys.executable, "-m", "backends.wandb_record", what, str(order), str(place), str(os.getpid())]
    known = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": place}
    with subprocess.Popen(argv, env=environ, text=True, start_new_session=True, **known) as process:  # type: ignore[call-overload]
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            said = f"it took longer than {seconds:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    print(f"{what} {order.stem}: {code}", *lines, sep="\n  ", flush=True)  # noqa: T201 (the log of this process)
    return code, lines[-1][:300] if lines else f"exit status {code}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
