"""Saved states: folders from which an interrupted training goes on to exactly the weights it would have reached.

A state is written like a checkpoint, whole or not at all. ``state-<step>`` holds

* ``weights.safetensors``: the trained parameters by name;
* ``optimizer.safetensors``: Adam's moments by parameter name, and the lineage's step count;
* ``state.json``: where the training stood, of which work it is a state, and the SHA-256 of all that.

The order of the batches follows from the seed and the step that the lineage started at, so a count of the batches
taken is enough to go on with the same ones.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpu.checkpoints import whole
from rl.config import Train, digest
from rl.errors import InvalidInput
from rl.protocol import StateSaved, TrainCommand

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
RECORD = "state.json"


class Position(BaseModel):
    """Where a training stands: after ``done`` updates on ``batches`` batches.

    ``token_budget`` is what it had come to after memory ran out ``shrunk`` times: other micro-batches would round
    differently. ``kl_coefficient`` is what an adaptive one had come to, ``engine_gap`` what the first step measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    batches: int = Field(ge=0)
    done: int = Field(ge=0)
    token_budget: int = Field(ge=1)
    shrunk: int = Field(ge=0)
    kl_coefficient: float | None = Field(None, exclude_if=lambda coefficient: coefficient is None)
    engine_gap: float | None = Field(None, exclude_if=lambda gap: gap is None)


class Work(BaseModel):
    """What a state is a state of: digests of the dataset, of curated rows, and of the config with its base and parent.

    The token budget and the number of devices are left out of the config: a training may go on with less memory, and on
    fewer devices or more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    config: str
    dataset: str
    curated: str | None = Field(None, exclude_if=lambda curated: curated is None)


class Record(BaseModel):
    """What ``state.json`` says. ``sha256`` is over everything else in it and both other files."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1] = Field(1, alias="schema", serialization_alias="schema")
    position: Position
    work: Work
    sha256: str


@dataclass(frozen=True)
class Saved:
    """A state in memory."""

    position: Position
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]


class States:
    """The states of one command: reads the one it resumes from, and says when the next is due."""

    def __init__(self, command: TrainCommand, config: Train) -> None:
        self.command, self.config = command, config
        self._saved_step, self._saved_at = 0, time.monotonic()

    @cached_property
    def work(self) -> Work:
        """What this command works on."""
        dataset = _file_sha256(Path(self.command.dataset))
        curated = _file_sha256(Path(self.command.curated)) if self.command.curated else None
        config = self.config.model_dump(mode="json", exclude={"token_budget", "devices"})
        return Work(config=digest(config, self.command.base, self.command.parent), dataset=dataset, curated=curated)

    def read(self, folder: Path, named: Mapping[str, Tensor]) -> Saved:
        """The state in ``folder``, which fits the trained parameters ``named``.

        Raises:
            InvalidInput: it is missing, incomplete or damaged, or a state of other work.
        """
        record = _verified(folder)
        for name in ("config", "dataset", "curated"):
            if getattr(record.work, name) != getattr(self.work, name):
                raise InvalidInput("resume", str(folder), f"it was saved with another {name}")
        weights, moments = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
        if {name: (one.shape, one.dtype) for name, one in weights.items()} != {
            name: (one.shape, one.dtype) for name, one in named.items()
        }:
            raise InvalidInput("resume", str(folder), "its weights do not fit the model")
        return Saved(record.position, weights, moments)

    def due(self, done: int) -> bool:
        """Whether ``save_seconds`` have passed since the last state, and a step has been done since."""
        every = self.command.save_seconds
        return every > 0 and done > self._saved_step and time.monotonic() - self._saved_at >= every

    def save(self, position: Position, named: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> StateSaved | None:
        """Write a state; None when there is nothing to save that is not saved already.

        Raises:
            DiskFull: there was no room; nothing is left behind, and older states stay.
        """
        if position.done == self._saved_step:
            return None
        path, sha256 = write(Path(self.command.out), position, self.work, named, moments)
        self._saved_step, self._saved_at = position.done, time.monotonic()
        where = {"job": self.command.job, "fence": self.command.fence}
        return StateSaved(**where, step=position.done, path=str(path), sha256=sha256)


def write(
    out: Path, position: Position, work: Work, named: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> tuple[Path, str]:
    """Write ``out/state-<step>`` and return its path and the SHA-256 of its contents.

    Raises:
        DiskFull: there was no room; nothing is left behind.
    """
    final = out / f"state-{position.done:06d}"
    with whole(final, "saving a state") as writing:
        save_file({name: one.detach().contiguous() for name, one in named.items()}, writing / WEIGHTS)
        save_file(dict(moments), writing / OPTIMIZER)
        record = Record(position=position, work=work, sha256=_sha256(writing, position, work))
        (writing / RECORD).write_text(record.model_dump_json(by_alias=True, indent=1))
    return final, record.sha256


def remove_older(newest: Path) -> None:
    """Remove the states beside ``newest`` but the one before it, which is the last that others are sure to know of."""
    for folder in sorted(newest.parent.glob("state-*"))[:-2]:
        shutil.rmtree(folder)


def _verified(folder: Path) -> Record:
    """The record of a state whose contents are what was saved."""
    try:
        record = Record.model_validate_json((folder / RECORD).read_bytes())
        actual = _sha256(folder, record.position, record.work)
    except ValidationError as error:
        first = error.errors()[0]
        remedy = f"{RECORD} is not of this schema: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InvalidInput("resume", str(folder), remedy) from error
    except OSError as error:
        raise InvalidInput("resume", str(folder), f"no complete state lies there: {error.strerror}") from error
    if actual != record.sha256:
        raise InvalidInput("resume", str(folder), "its contents are not what was saved")
    return record


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(folder: Path, position: Position, work: Work) -> str:
    parts: list[object] = [position, work]
    parts += [_file_sha256(folder / name) for name in (WEIGHTS, OPTIMIZER)]
    return digest(*parts)
