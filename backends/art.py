"""ART's training service at W&B (``art-serverless``): each training is a child process that speaks with it.

The child imports ART, which takes seconds and much memory, and dies with this process. It is told the key through a
pipe, and waits with what it asks the service for until this side has stored that it will (``backends.art_training``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from backends import Place
from backends.art_account import Account, account
from rl import art
from rl.errors import ChildLost, MissingDependency
from rl.objectives import Objective
from rl.protocol import (
    EVENTS,
    BackendName,
    Done,
    Event,
    Failed,
    Line,
    PauseCommand,
    Paused,
    RemoteNoted,
    StoredCommand,
    TrainCommand,
)

MODULE: Final = "backends.art_child"
TICK_SECONDS: Final = 1.0
PASSED_ON: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


class ArtServerless:
    """Trains versions that lie with the service, on-policy, on machines without a GPU."""

    name: BackendName = "art-serverless"

    def refusals(self, config: Objective) -> list[str]:
        """Objectives that ART has no equal loss for, and settings that its service would ignore."""
        return art.refusals(config)

    def place(self, child: Callable[[], Place]) -> Place:
        """A process of its own; the device's child is not started.

        Raises:
            InvalidSettings: no key of W&B is set, or another variable of it cannot be used.
            MissingDependency: ART is not installed here.
        """
        if importlib.util.find_spec("art") is None:
            raise MissingDependency("art-serverless needs ART, which is not installed here: pip install 'rlfleet[art]'")
        return ArtPlace(account())


class ArtPlace:
    """Carries out one command at a time, each in a process of its own. Not thread-safe."""

    def __init__(self, told: Account, module: str = MODULE) -> None:
        self.log = Path(os.devnull)
        self._account, self._module = told, module
        self._process: subprocess.Popen[bytes] | None = None
        self._events = -1
        self._buffer = b""

    def train(self, command: TrainCommand) -> Iterator[Event | None]:
        """As ``Place.train``. What a ``RemoteNoted`` says must be stored before the next event is asked for.

        Raises:
            ChildLost: the process died; its log says why.
        """
        self._start(command)
        try:
            while True:
                event = self._next()
                yield event
                if isinstance(event, RemoteNoted):
                    self._send(StoredCommand(job=command.job, fence=command.fence))
                elif isinstance(event, Done | Failed | Paused):
                    return
        finally:
            self.kill()

    def pause(self, command: TrainCommand) -> None:
        """Have it stop to ask how the training goes; ``train`` then yields ``Paused``. The service goes on."""
        self._send(PauseCommand(job=command.job, fence=command.fence))

    def kill(self) -> None:
        """End the process. What the service was asked for goes on there."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        if self._events >= 0:
            os.close(self._events)
        self._events, self._buffer = -1, b""

    def _start(self, command: TrainCommand) -> None:
        folder = Path(command.out)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "art.log"
        self._events, events = os.pipe()
        words = [sys.executable, "-m", self._module, "--events-fd", str(events), "--parent", str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env=_environment(os.environ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(events,),
                start_new_session=True,
            )
        os.close(events)
        self._send(self._account)
        self._send(command)

    def _send(self, line: Line) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line.line())
            self._process.stdin.flush()
        except OSError as error:
            raise ChildLost(
                f"the process that speaks with ART ended ({type(error).__name__}); see {self.log}"
            ) from None

    def _next(self) -> Event | None:
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._events, selectors.EVENT_READ)
                if not selector.select(TICK_SECONDS):
                    return None
            chunk = os.read(self._events, 1 << 16)
            if not chunk:
                raise ChildLost(f"the process that speaks with ART ended; see {self.log}")
            self._buffer += chunk
            if b"\n" not in self._buffer:
                return None
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return EVENTS.validate_json(line)
        except ValidationError as error:
            wrong = f"the process that speaks with ART said {line[:200]!r}, which is no event"
            raise ChildLost(wrong) from error


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the child gets to see: none of our addresses and keys. ART opens a run at W&B where it finds a key."""
    ours = str(Path(__file__).parents[1])
    kept = {name: environ[name] for name in PASSED_ON if name in environ}
    return kept | {
        "PYTHONPATH": ours,
        "PYTHON_DOTENV_DISABLED": "1",  # ART looks for a .env from its own folder upwards, which finds ours
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched
        "WANDB_MODE": "disabled",
        "WEAVE_DISABLED": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
