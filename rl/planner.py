"""Which jobs are missing. Level-triggered and pure: it looks at what is, never at what happened.

For every line: a closed window wants collecting, a collected one scoring, a version evaluating on the
validation scenarios, an evaluated version outside a run a decision. A scored window of a run wants training;
a scored hour waits for the daily training or for somebody who asks. A run opens its next round when the last
one is trained; when all rounds are trained and all versions validated, the best by those verdicts and the stable
version are evaluated on the held-out scenarios, and a decision ends the run.

A wanted job that exists in any state is not created again, so a failed one stays failed until a person acts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rl.config import LineConfig, Release, RunConfig, TaskSet, TrainConfig, digest
from rl.errors import InvalidInput
from rl.scoring_config import Scoring
from rl.selection import Candidate, Selection, select
from rl.windows import round_of

TRAIN_FIRST, PLAIN, EVALUATE_LAST = 50, 100, 120


@dataclass(frozen=True)
class WindowState:
    """A window as the planner sees it; ``again`` counts how often rows that came late were added to it."""

    name: str
    state: str
    run: str | None
    round: int | None
    again: int = 0


@dataclass(frozen=True)
class Result:
    """``k`` of ``n`` verdicts right, in ``turns`` turns on average."""

    k: int
    n: int
    turns: float


@dataclass(frozen=True)
class VersionState:
    """A version, the windows it was trained on, and its results by the digest of the task set."""

    name: str
    state: str
    windows: tuple[str, ...]
    results: Mapping[str, Result]

    def on(self, task_set: TaskSet) -> Result | None:
        """Its result on that task set, if it was evaluated there."""
        return self.results.get(digest(task_set))


@dataclass(frozen=True)
class RunState:
    """A run that has not ended, and the version it started from."""

    config: RunConfig
    base: str


@dataclass(frozen=True)
class LineState:
    """Everything the planner needs to know of a line; windows and versions are oldest first.

    ``stable`` names the version that has the line's traffic, if one was released.
    """

    name: str
    config: LineConfig
    windows: tuple[WindowState, ...]
    versions: tuple[VersionState, ...]
    runs: tuple[RunState, ...]
    stable: str | None = None


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


def collect(line: LineState, window: WindowState, *, rows: int | None = None, after_hours: float | None = None) -> Want:
    """Bring the window's trajectories in: from the line's source, or by playing the run's scenarios.

    A window that was read is read again because its source holds ``rows``, or because it ended ``after_hours`` ago.

    Raises:
        InvalidInput: an hour window on a line without a source.
    """
    if window.run is not None:
        rollout = _run(line, window.run).config.rollout
        return Want("collect", "collect", {"window": window.name}, {"rollout": rollout.model_dump(mode="json")})
    if line.config.source is None:
        raise InvalidInput("line.source", None, f"line {line.name!r} has no source to collect {window.name} from")
    why = {"rows": rows, "after_hours": after_hours}
    inputs = {"window": window.name} | {name: value for name, value in why.items() if value is not None}
    return Want("collect", "collect", inputs, {"source": line.config.source})


def score(line: LineState, window: WindowState, known: int | None = None) -> Want:
    """Give every trajectory of the window the number it is trained with: rounds of a run their reward.

    It is done again for rows that came late, and for what became ``known`` since: a number that stands for it.
    """
    chosen = Scoring() if window.run is not None else line.config.scoring
    plain = {"method": "reward", "method_version": "1"}
    config = plain if chosen == Scoring() else {"scoring": chosen.model_dump(mode="json")}
    later = {"known": known} if known is not None else {"again": window.again} if window.again else {}
    return Want("score", "score", {"window": window.name} | later, config)


def train(line: LineState, *windows: WindowState) -> Want:
    """Train one version on the windows together: a round as its run says, hours as their line says.

    Windows that were added to ``again`` are work of their own: what is new in them is learned from.

    Raises:
        InvalidInput: an hour window on a line that does not say how to train.
    """
    run = windows[0].run
    config: TrainConfig | None = _run(line, run).config.train if run else line.config.train
    if config is None:
        raise InvalidInput("line.train", None, f"line {line.name!r} does not say how to train; set [train] in its file")
    inputs: dict[str, Any] = {"windows": [window.name for window in windows]}
    if again := {window.name: window.again for window in windows if window.again}:
        inputs["again"] = again
    return Want("train", "gpu", inputs, config.model_dump(mode="json"), TRAIN_FIRST)


def evaluate(version: str, task_set: TaskSet) -> Want:
    """Verdicts for the version on the task set."""
    return Want("evaluate", "gpu", {"version": version}, task_set.model_dump(mode="json"), EVALUATE_LAST)


def plan(line: LineState) -> Iterator[Want | OpenRound]:
    """Every job and round that should exist now, whether or not it does already; a round before what needs it."""
    for window in line.windows:
        if window.state == "closed" and (window.run is not None or line.config.source is not None):
            yield collect(line, window)
        elif window.state == "collected":
            yield score(line, window)
        elif window.state == "scored" and window.run is not None:
            yield train(line, window)
    yield from _outside_runs(line)
    for run in line.runs:
        yield from _plan_run(line, run)


def _outside_runs(line: LineState) -> Iterator[Want]:
    task_set = line.config.validation
    if task_set is None:
        return
    for version in line.versions:
        if version.state != "candidate" or any(name.startswith("run/") for name in version.windows):
            continue
        compared = [version, *(one for one in line.versions if one.name == line.stable)]
        missing = [one for one in compared if one.on(task_set) is None]
        for one in missing:
            yield evaluate(one.name, task_set)
        if not missing:
            yield _decide(None, line.stable, version.name, task_set, line.config.release, {})


def _plan_run(line: LineState, run: RunState) -> Iterator[Want | OpenRound]:
    windows = [window for window in line.windows if window.run == run.config.name]
    chain = chain_of(line, run)
    trained = all(window.state in ("trained", "skipped") for window in windows)
    if trained and len(windows) < run.config.rounds:
        following = len(windows) + 1
        opened = WindowState(round_of(run.config.name, following).text, "closed", run.config.name, following)
        yield OpenRound(run.config.name, opened.name)
        yield collect(line, opened)  # else it waits for the next look, until some other job ends
    unjudged = [version for version in chain if version.on(run.config.validation) is None]
    for version in unjudged:
        yield evaluate(version.name, run.config.validation)
    if trained and len(windows) == run.config.rounds and not unjudged:
        yield from _conclude(line, run, chain)


def _conclude(line: LineState, run: RunState, chain: list[VersionState]) -> Iterator[Want]:
    selection = choose(run, chain)
    pick = chain[selection.pick]
    # The stable version is the one that the run started from, unless something else was released meanwhile.
    rival = next((version for version in line.versions if version.name == line.stable), chain[0])
    finalists = {version.name: version for version in (rival, pick)}
    missing = [version for version in finalists.values() if version.on(run.config.held_out) is None]
    for version in missing:
        yield evaluate(version.name, run.config.held_out)
    if not missing:
        evidence = {
            "tie_set": [chain[step].name for step in selection.tie_set],
            "validation": {version.name: [*_counts(version, run.config.validation)] for version in chain},
        }
        yield _decide(run, rival.name, pick.name, run.config.held_out, run.config.release, evidence)


def choose(run: RunState, chain: list[VersionState]) -> Selection:
    """The choice among the run's versions by their validation verdicts; step i is ``chain[i]``, 0 the base.

    A version that somebody rejected by hand is left out.
    """
    candidates = []
    for step, version in enumerate(chain):
        result = version.on(run.config.validation)
        if result is not None and (step == 0 or version.state != "rejected"):
            types = {run.config.validation.environment: (result.k, result.n)}
            candidates.append(Candidate(step=step, types=types, turns=result.turns))
    return select(candidates)


def chain_of(line: LineState, run: RunState) -> list[VersionState]:
    """The run's versions in the order they were trained, the version it started from first."""
    base = [version for version in line.versions if version.name == run.base]
    prefix = f"run/{run.config.name}/"
    return base + [one for one in line.versions if any(name.startswith(prefix) for name in one.windows)]


def _decide(
    run: RunState | None,
    base: str | None,
    candidate: str,
    task_set: TaskSet,
    release: Release,
    evidence: Mapping[str, Any],
) -> Want:
    inputs = {"candidate": candidate, "run": run.config.name if run else None, "base": base}
    config = {
        "release": release.model_dump(mode="json"),
        "task_set": task_set.model_dump(mode="json"),
        "evidence": dict(evidence),
    }
    return Want("decide", "score", inputs, config)


def _counts(version: VersionState, task_set: TaskSet) -> tuple[int, int]:
    result = version.on(task_set)
    return (result.k, result.n) if result else (0, 0)


def _run(line: LineState, name: str) -> RunState:
    for run in line.runs:
        if run.config.name == name:
            return run
    raise InvalidInput("run", name, "this run has ended; start a new one")
