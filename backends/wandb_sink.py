"""The sink ``wandb``: runs and models in Weights & Biases, copied by a process of its own that may take its time.

A run that is to be copied is a file in ``orders``, and what became of it one in ``arrived``. The process in between
(``backends.wandb_child``) is started for what is asked for, and dies with the one that started it. An order that it did
not come to lies in ``left`` until it is asked for again, and is written anew then: what was to be sent may be erased by
then, and a key is for one server. So nothing here ever waits for the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from backends.sink_settings import sink_settings, wandb_account
from backends.sinks import Copied, Model, Run
from backends.wandb_orders import COPY, job_of, read, those_in, write
from rl.errors import MissingDependency

ROOT: Final = Path(__file__).resolve().parent.parent
MODULE: Final = "backends.wandb_child"
PASSED: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""The child has no other variables of ours: neither the database's URL nor any key but its own."""

SLOW_SECONDS: Final = 600.0
"""A run that waits for longer is said to be behind, whatever it waits for: the child, its lock, or a slow line."""

LONGEST_TAG: Final = 64
"""Characters that a tag may have. A version's number is at the end of its name."""

_started: dict[Path, subprocess.Popen[bytes]] = {}
"""The newest child of each folder."""
_said: dict[Path, float] = {}
"""Until when nothing more is said of an order that waits, in Unix seconds."""


class WandbSink:
    """Orders in ``folder``. ``seconds`` is what sending one run may take; unset: ``RLFLEET_WANDB_SECONDS``."""

    name = "wandb"
    takes_models = True

    def __init__(self, folder: Path, seconds: float | None = None) -> None:
        self._folder, self._seconds = folder.absolute(), seconds or sink_settings().wandb_seconds

    @property
    def place(self) -> str:
        """The project of the account; empty where runs are recorded and not sent."""
        if (url := _url()) is None:
            return ""
        account = wandb_account()
        return f"{url}/{account.entity}/{account.project}"

    def put(self, run: Run) -> None:
        if find_spec("wandb") is None:
            raise MissingDependency("the sink wandb needs its package: pip install 'rlfleet[wandb]'")
        if (self._folder / "working" / f"{run.key}.json").exists():
            return  # it is being sent as it was; what it lacks then is seen by the next look
        path = self._folder / "orders" / f"{run.key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        left = self._folder / "left" / path.name
        write(path, self._order(run), left if left.exists() else path)
        left.unlink(missing_ok=True)
        self._see_to_it()

    def _order(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = {
            "key": run.key,
            "name": run.name,
            "group": run.group,
            "tags": [tag[-LONGEST_TAG:] for tag in run.tags],
            "failed": run.state not in ("queued", "running", "succeeded"),
            "params": dict(run.params),
            "steps": [vars(one) | {"metrics": dict(one.metrics)} for one in run.steps],
            "summary": run.summary(),
            "models": [_model(one) for one in run.models],
        } | _to()
        told = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
        found["summary"][COPY] = told[:16]
        return found | {"mark": dict(run.mark), "seconds": self._seconds}

    def arrived(self) -> Iterator[Copied]:
        for path in those_in(self._folder / "arrived"):
            found = read(path)
            if isinstance(mark := found.get("mark"), dict) and "job" in mark and "error" in found:
                yield Copied(mark, found["error"])
            path.unlink(missing_ok=True)
        yield from self._late()
        with self._without_child() as is_so:
            if is_so:
                for path in those_in(self._folder / "left"):  # nobody asked for it since the last look
                    path.unlink(missing_ok=True)
                self._set_aside("orders")
                self._set_aside("working")

    def _late(self) -> Iterator[Copied]:
        """Runs that wait for too long, each told again when it has waited twice as long; they go on waiting.

        What is told counts as a failure, and puts the run off: told at each look, one whose child was killed would not
        be asked for again for an hour.
        """
        for name, words in (("orders", "waiting for its turn"), ("working", "on its way")):
            for path in those_in(self._folder / name):
                with contextlib.suppress(FileNotFoundError):
                    known, now, job = self._folder / path.name, time.time(), job_of(path)
                    waited = now - path.stat().st_mtime
                    if waited <= SLOW_SECONDS:
                        _said.pop(known, None)
                    elif now >= _said.get(known, 0.0) and job is not None:
                        _said[known] = now + waited
                        error = f"{words} for {waited / 60:.0f} minutes; see {self._folder / 'child.log'}"
                        yield Copied({"job": job, "key": path.stem}, error)

    def _set_aside(self, name: str) -> None:
        (self._folder / "left").mkdir(exist_ok=True)
        for path in those_in(self._folder / name):
            path.rename(self._folder / "left" / path.name)

    @contextlib.contextmanager
    def _without_child(self) -> Iterator[bool]:
        """Whether no child is at work for ``folder``, of this process or another; none begins within the block."""
        child = _started.get(self._folder)
        if not self._folder.is_dir() or (child and child.poll() is None):
            yield False
            return
        with (self._folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_so = True
            except BlockingIOError:
                is_so = False
            yield is_so

    def _see_to_it(self) -> None:
        """Start the child where none is at work."""
        with self._without_child() as is_so:
            if not is_so:
                return
            self._set_aside("working")
        with (self._folder / "child.log").open("wb") as log:
            argv = [sys.executable, "-m", MODULE, str(self._folder), str(os.getpid()), json.dumps(_to())]
            known = {
                "stdin": subprocess.DEVNULL,
                "stdout": log,
                "stderr": log,
                "start_new_session": True,
                "cwd": self._folder,
            }
            environ = _environ(self._folder, os.environ)
            _started[self._folder] = subprocess.Popen(argv, env=environ, **known)  # type: ignore[call-overload]


def _url() -> str | None:
    """Where runs are sent to; None where they are only recorded."""
    here = sink_settings()
    is_sent = here.wandb_mode == "online" and bool(wandb_account().api_key)
    return here.wandb_url.rstrip("/") if is_sent else None


def _to() -> dict[str, str | None]:
    """Where runs go by the settings of now. A child takes no order that goes elsewhere: its key is for that server."""
    account = wandb_account()
    return {"entity": account.entity, "project": account.project, "url": _url()}


def _model(one: Model) -> dict[str, Any]:
    return vars(one) | {"folder": str(one.folder), "aliases": list(one.aliases)}


def _environ(folder: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """What the child may know. Its home is ``folder``: neither a .netrc nor settings of a person's own are read."""
    names = [*PASSED, *PROXIES, *(name.lower() for name in PROXIES)]
    environ = {name: ours[name] for name in names if name in ours}
    environ |= {
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "PYTHONUNBUFFERED": "1",
    }
    environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off", "WANDB_DISABLE_GIT": "true"}
    if sink_settings().wandb_mode == "online" and (key := wandb_account().api_key):
        environ["WANDB_API_KEY"] = key
    return environ
