"""What the planner looks at and what it wants: a line as it is, and the jobs and changes that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rl.config import LineConfig, RunConfig, TaskSet, digest
from rl.errors import InvalidInput
from rl.health import Training
from rl.held_out import LoggedSet

TRAIN_FIRST, PLAIN, EVALUATE_LAST = 50, 100, 120

AnySet = TaskSet | LoggedSet


@dataclass(frozen=True)
class WindowState:
    """A window as the planner sees it; ``again`` counts how often rows that came late were added to it."""

    name: str
    state: str
    run: str | None
    round: int | None
    again: int = 0


@dataclass(frozen=True)
class Part:
    """A shard that was evaluated: ``size`` scenarios from place ``first`` on, ``missing`` of them without a verdict.

    One of logs that is asked for again, as another result has more scenarios, says how many it ``held`` before.
    """

    sample: int
    first: int
    size: int
    missing: int = 0
    held: int | None = None


@dataclass(frozen=True)
class Result:
    """The verdicts of one checkpoint on one task set: ``k`` of ``n`` right, in ``turns`` turns on average.

    A tie with another version is half of one, so that ``k`` may end in .5.
    ``types`` holds ``(k, n)`` by type of scenario, ``parts`` the shards that they came in. By scenario, in the order of
    ids, ``successes`` are twice the right samples (a tie with another version is half a success), None where one lacks;
    they can be compared with those of a result with the same ``scenarios``, whatever types these have. ``newest``
    orders results in time. Of logs, ``ids`` are numbers made of the scenarios' ids and ``kinds`` their types, in that
    order. ``earlier`` are those of another judge or prompt. ``broken`` and ``at_limit`` count verdicts on episodes with
    a broken answer, and on those that the turn limit ended (``rl.health``).
    """

    k: float
    n: int
    turns: float | None
    types: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    judge: str = ""
    prompt_hash: str = ""
    newest: int = 0
    scenarios: str = ""
    successes: tuple[int | None, ...] = ()
    ids: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    broken: int = 0
    at_limit: int = 0
    earlier: tuple[Result, ...] = ()

    @property
    def missing(self) -> int:
        """Verdicts that were asked for and not given."""
        return sum(part.missing for part in self.parts)

    def shards(self) -> tuple[Part, ...]:
        """Its parts; one of them all where none is named."""
        return self.parts or (Part(0, 0, self.n),)

    def all(self) -> Iterator[Result]:
        """It and the earlier ones."""
        yield self
        yield from self.earlier


def of_halves(halves: int) -> float:
    """So many half successes as successes; a whole number stays an int."""
    return halves / 2 if halves % 2 else halves // 2


Results = Mapping[str, Result]
"""By the digest of the task set."""


@dataclass(frozen=True)
class VersionState:
    """A version, the windows it was trained on, and the results of its checkpoint.

    ``checkpoints`` are the optimizer steps at which its training wrote one, where there are several, and ``chosen`` the
    one that it stands for, the last until a decision chose another; ``steps`` has the results of the others, and
    ``scores`` the training scores that are known. ``reward`` is the mean reward of the round that it was trained on.
    ``training`` says how the updates went that wrote the checkpoints, by step, by None where there is only one.
    """

    name: str
    state: str
    windows: tuple[str, ...]
    results: Results
    checkpoints: tuple[int, ...] = ()
    chosen: int | None = None
    steps: Mapping[int, Results] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    reward: float | None = None
    training: Mapping[int | None, Training] = field(default_factory=dict)

    def on(self, task_set: AnySet, step: int | None = None) -> Result | None:
        """Its result on that task set, or that of its checkpoint at ``step``, if it was evaluated there."""
        found = self.results if step is None or step == self.own else self.steps.get(step, {})
        return found.get(digest(task_set))

    @property
    def own(self) -> int | None:
        """The step of the checkpoint that it stands for; None where there is only one."""
        return self.chosen if self.chosen is not None or not self.checkpoints else self.checkpoints[-1]

    @property
    def run(self) -> str | None:
        """The run that it was trained in."""
        return next((name.split("/")[1] for name in self.windows if name.startswith("run/")), None)


@dataclass(frozen=True)
class RunState:
    """A run that has not ended, and the version it started from.

    A ``paused`` one opens no round and does not end. ``finishing`` ends as if all rounds had been played. Versions
    before place ``patient_from`` of its chain do not use up the patience of its early stop.
    """

    config: RunConfig
    base: str
    paused: bool = False
    finishing: bool = False
    patient_from: int = 0


@dataclass(frozen=True)
class LineState:
    """Everything the planner needs to know of a line; windows and versions are oldest first.

    ``stable`` names the version that has the line's traffic, if one was released, ``stable_release`` is the id of that
    release, and ``canary`` names the version that is being tried beside it.
    """

    name: str
    config: LineConfig
    windows: tuple[WindowState, ...]
    versions: tuple[VersionState, ...]
    runs: tuple[RunState, ...]
    stable: str | None = None
    canary: str | None = None
    stable_release: int | None = None

    def version(self, name: str | None) -> VersionState | None:
        """The version of that name, if there is one."""
        return next((one for one in self.versions if one.name == name), None)

    def run(self, name: str) -> RunState:
        """The run of that name.

        Raises:
            InvalidInput: it has ended.
        """
        for run in self.runs:
            if run.config.name == name:
                return run
        raise InvalidInput("run", name, "this run has ended; start a new one")

    def chain(self, run: RunState) -> list[VersionState]:
        """The run's versions in the order they were trained, the version it started from first."""
        base = [version for version in self.versions if version.name == run.base]
        return base + [one for one in self.versions if one.run == run.config.name]


@dataclass(frozen=True)
class Want:
    """A job that should exist."""

    kind: str
    queue: str
    inputs: Mapping[str, Any]
    config: Mapping[str, Any]
    priority: int = PLAIN


@dataclass(frozen=True)
class OpenRound:
    """A round of a run that should exist as a closed window, ready to be played."""

    run: str
    window: str


@dataclass(frozen=True)
class PauseRun:
    """A run that should wait for a person, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class Alarmed:
    """An alarm of a version that a person should hear of once."""

    name: str
    version: str
    evidence: str
