"""The folder of one pipeline: what its stages have made, so that a second start goes on with it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleet.home import make_home, write_private
from rl.errors import InvalidInput, StartError
from rl.pipeline import MOST_LETTERS, Pipeline

SAVE_SECONDS = 10.0
"""What a killed process had worked is known but for so much."""

BESIDE = frozenset({".lock", "pipeline.json", "seconds.json", "report.json"})
"""Files that say nothing was made: a report may be of nothing."""


class Folder:
    """``pipeline``, ``base``, ``seconds`` and ``report`` as JSON, ``demonstrations.jsonl``, and ``starter/``.

    ``.lock`` is held by the one process that works on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.demonstrations = path / "demonstrations.jsonl"
        self.starter = path / "starter"
        self.report = path / "report.json"
        self._timing: tuple[str, float, float] | None = None
        self._saved = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder where it is missing, and keep other processes from working on it meanwhile.

        Raises:
            StartError: one does.
        """
        make_home(self.path.parent.parent)
        for folder in (self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode() or "another one"
                words = f"pipeline {self.path.name} is being run by process {holder}: wait for it, or stop it"
                raise StartError(words) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    @property
    def begun(self) -> bool:
        """Whether anything has been made for a pipeline."""
        return self.path.exists() and any(path.name not in BESIDE and not _is_empty(path) for path in _in(self.path))

    def make(self, config: Pipeline) -> None:
        """Create it for ``config``, or see that it was made for it. Where nothing is made yet, settings may change.

        Raises:
            InvalidInput: what is there was made for other settings.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        changed = self._changed(config) if self.begun else []
        if changed:
            remedy = f"it was begun with {'; '.join(changed[:3])}; choose another name, or start anew with --fresh"
            raise InvalidInput("name", config.name, remedy)
        self.write("pipeline", config.model_dump(mode="json"))

    def _changed(self, config: Pipeline) -> list[str]:
        """The settings that differ from those it was begun with; keys that came later have their defaults."""
        before = self.read("pipeline")
        try:
            return [] if before is None else list(config.differences(Pipeline.model_validate(before)))
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            return [f"settings that are not understood ({place or 'pipeline.json'})"]

    def read(self, name: str) -> Any:
        """The JSON in ``name.json``; None where there is none."""
        file = self.path / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def write(self, name: str, content: Any) -> None:
        """Write ``name.json``, whole or not at all."""
        write_private(self.path / f"{name}.json", json.dumps(content, indent=1) + "\n")

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds of work by stage, of all starts together."""
        return dict(self.read("seconds") or {})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that this takes to the stage's, also when it is interrupted; see ``tick``."""
        self._timing = stage, self.seconds.get(stage, 0.0), time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(OSError):  # what has failed is to be told, and a disk that is full fails both
                self._save(*self._timing)
            raise
        else:
            self._save(*self._timing)
        finally:
            self._timing = None

    def tick(self) -> None:
        """Write the time of the stage at work now and then, so that a killed process has not worked for nothing."""
        if self._timing is not None and time.monotonic() - max(self._saved, self._timing[2]) >= SAVE_SECONDS:
            self._save(*self._timing)

    def _save(self, stage: str, before: float, started: float) -> None:
        self._saved = time.monotonic()
        self.write("seconds", self.seconds | {stage: round(before + self._saved - started, 1)})


def _in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.endswith(".new"))


def _is_empty(path: Path) -> bool:
    """Whether it is a folder that nothing was put into."""
    return path.is_dir() and not any(path.iterdir())


def attempt(folder: Path, name: str, *, fresh: bool) -> str:
    """The name of the newest pipeline called ``name``, or of a new one: ``name``, ``name--2``, ``name--3``, ...

    Raises:
        InvalidInput: it would be too long for a name.
    """
    behind = [path.name.removeprefix(f"{name}--") for path in folder.glob(f"{name}--*")]
    numbers = [int(number) for number in behind if number.isdecimal()]
    newest = max([1, *numbers])
    if fresh and (numbers or (folder / name).exists()):
        newest += 1
    chosen = name if newest == 1 else f"{name}--{newest}"
    if len(chosen) > MOST_LETTERS:
        raise InvalidInput("name", name, f"{chosen} has more than {MOST_LETTERS} letters; choose a shorter name")
    return chosen
