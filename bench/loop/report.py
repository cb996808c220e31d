"""From moments to numbers: the time from a window's last turn to being served, stages, rates, and the gate.

**Playable**: the gateway answers a call that names the version trained on the window. That is how a run's next round
reaches it.

**Released**: the gateway answers a call that names the line with the version that the run's decision released; counted
from the last turn of the run's last window, because the decision comes after all of them.

**Served** is the later of what a window's successors wait for: playable for each window of a run but the last, and for
the last one released as well, when the decision releases a version.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from bench.loop.rows import Loop, Round, Span

SCHEMA = 1
GOAL_SECONDS = 90.0
"""The most that the 95th percentile of ``window_to_served`` may be."""

Stage = tuple[str, float]


def report(loops: Sequence[Loop], errors: Sequence[str], wanted: int) -> dict[str, Any]:
    """One object. ``wanted`` windows were to be measured; ``errors`` are runs that did not come to their end.

    ``passed`` only if every one of them was served, and 95 % within ``GOAL_SECONDS``.
    """
    served = summary(second for loop in loops for second in served_seconds(loop))
    complete = not errors and served["n"] == wanted
    return {
        "schema": SCHEMA,
        "window_to_served": served,
        "window_to_playable": summary(second for loop in loops for second in playable_seconds(loop)),
        "window_to_released": summary(second for loop in loops for second in released_seconds(loop)),
        "logs_to_released": summary(second for loop in loops for second in _after(loop.asked_at, loop.cloned_at)),
        **rates([one for loop in loops for one in loop.rounds]),
        "stages": stages(loops),
        "goal_seconds": GOAL_SECONDS,
        "windows": wanted,
        "errors": list(errors),
        "passed": complete and served["p95"] is not None and served["p95"] <= GOAL_SECONDS,
    }


def playable_seconds(loop: Loop) -> list[float]:
    """For each window, from its last turn to the first completion by the version trained on it."""
    return [second for one in loop.rounds for second in _after(one.last_turn, one.playable_at)]


def released_seconds(loop: Loop) -> list[float]:
    """From the last turn of the run's last window to the released version's first answer; empty without a release."""
    return _after(loop.rounds[-1].last_turn, loop.released_at) if loop.rounds else []


def served_seconds(loop: Loop) -> list[float]:
    """For each window, from its last turn to the later of what its successors wait for.

    A window whose version never answered is left out, and so is the last one when a released version did not.
    """
    seconds = [_after(one.last_turn, one.playable_at) for one in loop.rounds]
    if seconds and seconds[-1] and loop.released is not None:
        seconds[-1] = [max(*seconds[-1], second) for second in released_seconds(loop)]
    return [second for found in seconds for second in found]


def rates(rounds: Sequence[Round]) -> dict[str, float | None]:
    """Episodes and tokens a second through the gateway, from the collecting job's claim to a window's last turn."""
    played = [one for one in rounds if one.collect is not None and one.last_turn is not None]
    seconds = math.fsum(second for one in played for second in _after(_began(one.collect), one.last_turn))
    counts = {
        "episodes_per_second": sum(one.episodes for one in played),
        "tokens_per_second": sum(one.tokens for one in played),
        "prompt_tokens_per_second": sum(one.prompt_tokens for one in played),
    }
    return {name: round(count / seconds, 1) if seconds else None for name, count in counts.items()}


def stages(loops: Sequence[Loop]) -> dict[str, dict[str, float | None]]:
    """Seconds of each stage and of each wait before one, in the order of a window's life."""
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    for loop in loops:
        for name, seconds in _stages(loop):
            found[name].append(seconds)
    return {name: summary(seconds) for name, seconds in found.items()}


STAGES = (
    "collect_wait",
    "collect",
    "score_wait",
    "score",
    "train_wait",
    "train",
    "playable_wait",
    "evaluate_wait",
    "evaluate",
    "held_out_wait",
    "held_out",
    "decide_wait",
    "decide",
    "released_wait",
)
"""A wait goes from the end of what a stage needs to its claim; the waits of versions end with an answer."""


def _stages(loop: Loop) -> Iterator[Stage]:
    before = loop.started_at
    for one in loop.rounds:
        yield from _stage("collect", before, one.collect)
        yield from _stage("score", _ended(one.collect), one.score)
        yield from _stage("train", _ended(one.score), one.train)
        before = _ended(one.train)
        yield from (("playable_wait", seconds) for seconds in _after(before, one.playable_at))
        yield from _stage("evaluate", before, one.evaluate)
    yield from _conclusion(loop)


def _conclusion(loop: Loop) -> Iterator[Stage]:
    """The evaluations on held-out scenarios one after the other as one stage, then the decision."""
    judged = [one.evaluate.ended for one in loop.rounds if one.evaluate is not None]
    held_out = None
    if loop.held_out:
        held_out = Span(
            asked=min(one.asked for one in loop.held_out),
            began=min(one.began for one in loop.held_out),
            ended=max(one.ended for one in loop.held_out),
        )
        yield from _stage("held_out", max(judged, default=None), held_out)
    yield from _stage("decide", _ended(held_out), loop.decide)
    yield from (("released_wait", seconds) for seconds in _after(_ended(loop.decide), loop.released_at))


def _stage(name: str, before: datetime | None, span: Span | None) -> Iterator[Stage]:
    if span is not None:
        yield from ((f"{name}_wait", seconds) for seconds in _after(before, span.began))
        yield from ((name, seconds) for seconds in _after(span.began, span.ended))


def _began(span: Span | None) -> datetime | None:
    return None if span is None else span.began


def _ended(span: Span | None) -> datetime | None:
    return None if span is None else span.ended


def _after(first: datetime | None, then: datetime | None) -> list[float]:
    """The seconds between the two, or nothing when one of them is missing."""
    return [] if first is None or then is None else [(then - first).total_seconds()]


def summary(seconds: Iterable[float]) -> dict[str, float | None]:
    """How many there are, the middle, the 95th percentile and the largest; None where there are none."""
    values = sorted(seconds)
    return {
        "n": len(values),
        "p50": percentile(values, 50),
        "p95": percentile(values, 95),
        "max": round(values[-1], 3) if values else None,
    }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest of the sorted values that at least ``percent`` % of them do not exceed (nearest rank)."""
    return round(values[math.ceil(percent * len(values) / 100) - 1], 3) if values else None
