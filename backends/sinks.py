"""Where metrics are copied to: what a run is, the one small interface of the sinks, and the sinks by name.

Postgres and the files of trainings are the truth, a sink is a mirror. Each takes a whole run again and again, may be
killed at any moment, and must neither lose nor double a step by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backends.sink_settings import sink_settings
from backends.steps import Step

Mark = Mapping[str, int | str | None]


@dataclass(frozen=True)
class Evaluated:
    """``k`` of ``n`` verdicts of the checkpoint of ``step`` on ``scenarios`` were right; a tie is half of one."""

    step: int
    scenarios: str
    k: float
    n: int


@dataclass(frozen=True)
class Decided:
    """A decision on the version. ``reason`` is empty where a person gave it. ``at`` is in Unix seconds."""

    released: bool
    policy: str
    reason: str
    at: float


@dataclass(frozen=True)
class Model:
    """The checkpoint of a version that passed, as an artifact. Its folder may lie on another host."""

    name: str
    folder: Path
    kind: str
    step: int
    sha256: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A training as a sink has it. ``key`` is the same for ever, ``name`` is the version's once there is one.

    The results of the checkpoint that the version stands for are the last of ``evaluations``, and the newest decision
    is the last. ``mark`` is given back with ``Copied`` as it is.
    """

    key: str
    name: str
    group: str
    tags: tuple[str, ...]
    state: str
    params: Mapping[str, Any]
    steps: tuple[Step, ...]
    evaluations: tuple[Evaluated, ...] = ()
    decisions: tuple[Decided, ...] = ()
    models: tuple[Model, ...] = ()
    mark: Mark = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What holds at the end: state, the last result on each set of scenarios, and the last decision."""
        found: dict[str, Any] = {"state": self.state}
        for one in self.evaluations:
            name = f"evaluation/{one.scenarios}"
            found |= {f"{name}/k": one.k, f"{name}/n": one.n, f"{name}/rate": one.k / one.n if one.n else None}
        if self.decisions:
            found |= {"released": self.decisions[-1].released, "decision": self.decisions[-1].policy}
        return found


@dataclass(frozen=True)
class Copied:
    """The run with that ``mark`` is where it should be, or ``error`` says why it is not."""

    mark: Mark
    error: str | None = None


class Sink(Protocol):
    """A place that runs are copied to.

    A run that was copied to another ``place`` is copied again; an empty one is as good as any.
    """

    name: str
    takes_models: bool
    """Whether the folders of a run's models have to be there when it is given."""

    @property
    def place(self) -> str:
        """Where that is now, without secrets; the same on every host of a fleet."""

    def put(self, run: Run) -> Copied | None:
        """Bring the copy of ``run`` up to date. None: it is on its way, and ``arrived`` tells how it ended.

        Raises:
            OSError: the place cannot be written to.
            MissingDependency: a package is not installed.
        """

    def arrived(self) -> Iterable[Copied]:
        """Runs whose copies ended since. One is said again until the next is asked for."""


def made(name: str, artifacts: Path, state: Path) -> Sink:
    """The sink of that name. ``artifacts`` and ``state`` are the fleet's folders."""
    from backends.jsonl_sink import JsonlSink
    from backends.tensorboard_sink import TensorboardSink
    from backends.wandb_sink import WandbSink

    told = sink_settings().metrics
    folder, place = (told or artifacts / "metrics").absolute(), str(told or "RLFLEET_ARTIFACTS")
    if name == "jsonl":
        return JsonlSink(folder, place)
    if name == "tensorboard":
        return TensorboardSink(folder / "tensorboard", place)
    return WandbSink(state.absolute() / "wandb")
