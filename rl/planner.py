"""Which jobs are missing. Level-triggered and pure: it looks at what is, never at what happened.

For every line: a closed window wants collecting, a collected one scoring, a version evaluating, an evaluated version
outside a run a decision. A scored window of a run wants training; a scored hour waits for the daily training or for
somebody who asks. A run opens its next round when the last one is trained, until its rounds are played or its versions
do not improve any more; then those that did best on the validation scenarios are evaluated on the held-out ones, and a
decision ends the run (``rl.deciding``).

A wanted job that exists in any state is not created again, so a failed one stays failed until a person acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rl.choosing import Ranking
from rl.config import Rollout, TrainConfig
from rl.deciding import alarms_outside_run, conclude, judged_in, judged_of, outside_run, points_of_run
from rl.errors import InvalidInput
from rl.evaluating import evaluate
from rl.line_state import (
    EVALUATE_LAST,
    PLAIN,
    TRAIN_FIRST,
    Alarmed,
    LineState,
    OpenRound,
    Part,
    PauseRun,
    Result,
    RunState,
    VersionState,
    Want,
    WindowState,
)
from rl.scoring_config import Scoring
from rl.selection import Selection
from rl.windows import round_of

__all__ = [
    "EVALUATE_LAST",
    "PLAIN",
    "TRAIN_FIRST",
    "Alarmed",
    "LineState",
    "OpenRound",
    "Part",
    "PauseRun",
    "Planned",
    "Result",
    "RunState",
    "VersionState",
    "Want",
    "WindowState",
    "alarms",
    "chain_of",
    "choose",
    "collect",
    "evaluate",
    "plan",
    "score",
    "stops",
    "train",
]

Planned = Want | OpenRound | PauseRun


def collect(
    line: LineState, window: WindowState, *, rows: int | None = None, after_hours: float | None = None
) -> list[Want]:
    """Bring the window's trajectories in: from the line's source, or by playing the run's scenarios, a job a shard.

    A window that was read is read again because its source holds ``rows``, or because it ended ``after_hours`` ago.

    Raises:
        InvalidInput: an hour window on a line without a source.
    """
    if window.run is not None:
        rollout = line.run(window.run).config.rollout
        config = {"rollout": rollout.model_dump(mode="json")}
        return [Want("collect", "collect", {"window": window.name} | part, config) for part in _shards(rollout)]
    if line.config.source is None:
        raise InvalidInput("line.source", None, f"line {line.name!r} has no source to collect {window.name} from")
    why = {"rows": rows, "after_hours": after_hours}
    inputs = {"window": window.name} | {name: value for name, value in why.items() if value is not None}
    return [Want("collect", "collect", inputs, {"source": line.config.source})]


def _shards(rollout: Rollout) -> list[dict[str, int]]:
    """Places among the round's scenarios; nothing is said of a round that is played by one job."""
    size, whole = rollout.shard, rollout.scenarios
    if size is None:
        return [{}]
    return [{"first": first, "count": min(size, whole - first)} for first in range(0, whole, size)]


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
    config: TrainConfig | None = line.run(run).config.train if run else line.config.train
    if config is None:
        raise InvalidInput("line.train", None, f"line {line.name!r} does not say how to train; set [train] in its file")
    inputs: dict[str, Any] = {"windows": [window.name for window in windows]}
    if again := {window.name: window.again for window in windows if window.again}:
        inputs["again"] = again
    return Want("train", "gpu", inputs, config.model_dump(mode="json"), TRAIN_FIRST)


def plan(line: LineState) -> Iterator[Planned]:
    """Every job and change that should be made now, whether or not it is already; a round before what needs it."""
    for window in line.windows:
        if window.state == "closed" and (window.run is not None or line.config.source is not None):
            yield from collect(line, window)
        elif window.state == "collected":
            yield score(line, window)
        elif window.state == "scored" and window.run is not None:
            yield train(line, window)
    before = 0
    for version in reversed(_candidates(line)):
        wants = list(outside_run(line, version))
        yield from (_after(want, before) for want in wants)
        before += sum(want.kind == "evaluate" for want in wants)
    for run in line.runs:
        yield from _plan_run(line, run)


def _after(want: Want, before: int) -> Want:
    """The newest version is evaluated first."""
    return replace(want, priority=want.priority + before) if want.kind == "evaluate" else want


def alarms(line: LineState) -> Iterator[Alarmed]:
    """What is wrong with versions that are not decided on yet, by their verdicts and training scores so far."""
    for version in _candidates(line):
        yield from alarms_outside_run(line, version)
    for run in line.runs:
        for one in judged_of(line, run)[1].alarms():
            yield Alarmed(one.name, points_of_run(line, run)[one.step].label, one.evidence)


def _candidates(line: LineState) -> list[VersionState]:
    return [one for one in line.versions if one.state == "candidate" and one.run is None]


def _plan_run(line: LineState, run: RunState) -> Iterator[Planned]:
    windows = [window for window in line.windows if window.run == run.config.name]
    trained = all(window.state in ("trained", "skipped") for window in windows)
    judged, found = judged_of(line, run)
    played, reason = len(windows) >= run.config.rounds or run.finishing, stops(run, found)
    pauses = bool(reason) and run.config.early_stop is not None and run.config.early_stop.then == "pause"
    over = played or (bool(reason) and not pauses)
    if pauses and not over and not run.paused:
        yield PauseRun(run.config.name, reason)
    elif trained and not over and not run.paused:
        following = len(windows) + 1
        opened = WindowState(round_of(run.config.name, following).text, "closed", run.config.name, following)
        yield OpenRound(run.config.name, opened.name)
        yield from collect(line, opened)  # else it waits for the next look, until some other job ends
    yield from judged.wants
    if trained and over and judged.complete and not run.paused and line.canary is None:
        yield from conclude(line, run, found)


def stops(run: RunState, found: Ranking) -> str:
    """Why no further round is opened; empty when one is."""
    stop = run.config.early_stop
    place = None if stop is None else found.stopped(stop.patience, run.patient_from)
    if stop is None or place is None:
        return ""
    counted = f"{stop.patience} evaluated versions in a row" if stop.patience > 1 else "the version"
    return f"early stop at {found.points[place].label}: {counted} did not improve on the best before"


def choose(run: RunState, chain: list[VersionState]) -> Selection:
    """The choice among the versions that have all their verdicts; step i is ``chain[i]``, 0 the base."""
    return judged_in(run, chain, None)[1].select()


def chain_of(line: LineState, run: RunState) -> list[VersionState]:
    """The run's versions in the order they were trained, the version it started from first."""
    return line.chain(run)
