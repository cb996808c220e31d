"""What is wrong with a training or with an evaluation by itself, whatever its verdicts say.

Of the update that wrote a checkpoint:

KL           the KL to the reference is above 5 times its target.
TRUNCATION   more than a tenth of the batch's episodes had an answer that its token limit cut.
NO_VARIANCE  more than 80 % of the trajectories are of groups that teach nothing: their scores are equal.

Of a checkpoint's evaluation:

BROKEN       more than 5 % of the episodes, and at least 3, hold an answer that is empty or says one thing on and on.
TURN_LIMIT   more than half of the episodes end at the turn limit, and more than at the start of the chain.

A number that was not recorded raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rl.records import Record

KL_TARGETS = 5.0
TRUNCATED = 0.1
UNTAUGHT = 0.8
BROKEN_SHARE, FEWEST_BROKEN = 0.05, 3
AT_LIMIT = 0.5

UNIT, TIMES, SHORTEST = 16, 16, 32
"""A text says one thing on and on where it ends with up to so many characters, so many times, over so many in all."""

BROKEN_OUTPUT = "broken output: "
"""What the reason of a verdict begins with where an answer was broken."""
LIMIT_REACHED = "the turn limit ended it"
TAUGHT_NOTHING = ("no advantage in its group", "mean score of its group outside filter")
"""Why a training leaves a trajectory out whose group's scores are equal."""

Name = Literal["KL", "TRUNCATION", "NO_VARIANCE", "BROKEN", "TURN_LIMIT"]
Symptom = tuple[Name, str]
"""An alarm's name and the numbers that it rests on."""


class Training(Record):
    """What is known of the update that wrote a checkpoint. ``reference_kl`` and ``kl_target`` are nats per token.

    ``untaught`` of ``trajectories`` were left out because the scores of their group are equal.
    """

    reference_kl: float | None = None
    kl_target: float | None = None
    truncated_share: float | None = None
    untaught: int = 0
    trajectories: int = 0

    @classmethod
    def of(cls, metrics: Mapping[str, float], manifest: Mapping[str, Any], *, is_last: bool = True) -> Training:
        """From a checkpoint's metrics and its training's manifest, whose trajectories count for the last checkpoint."""
        kl = (manifest.get("config") or {}).get("kl") or {}
        rows = (manifest.get("rows") or {}) if is_last else {}
        skipped = rows.get("skipped") or {}
        untaught = sum(int(skipped.get(reason, 0)) for reason in TAUGHT_NOTHING)
        return cls(
            reference_kl=metrics.get("reference_kl"),
            kl_target=kl.get("target"),
            truncated_share=metrics.get("truncated_share"),
            untaught=untaught,
            trajectories=untaught + int(rows.get("used") or 0),
        )


def of_training(one: Training) -> Iterator[Symptom]:
    """What is wrong with the update."""
    if one.reference_kl is not None and one.kl_target and one.reference_kl > KL_TARGETS * one.kl_target:
        yield (
            "KL",
            f"the KL to the reference is {one.reference_kl:.4g} nats per token, {one.reference_kl / one.kl_target:.1f} "
            f"times its target of {one.kl_target:g}; the limit is {KL_TARGETS:g} times",
        )
    if one.truncated_share is not None and one.truncated_share > TRUNCATED:
        words = f"{one.truncated_share:.1%} of the batch's episodes had an answer cut by its token limit"
        yield "TRUNCATION", f"{words}; the limit is {TRUNCATED:.0%}"
    if one.trajectories and one.untaught > UNTAUGHT * one.trajectories:
        words = f"{one.untaught} of {one.trajectories} trajectories are of groups whose scores are equal"
        yield "NO_VARIANCE", f"{words}; the limit is {UNTAUGHT:.0%}"


def of_evaluation(n: int, broken: int, at_limit: int, start: tuple[int, int] | None = None) -> Iterator[Symptom]:
    """What is wrong with ``n`` episodes: of them ``broken`` hold a broken answer, ``at_limit`` end at the turn limit.

    ``start`` counts the episodes at the limit, and all, of what the chain started from.
    """
    if broken >= FEWEST_BROKEN and broken > BROKEN_SHARE * n:
        words = f"{broken} of {n} episodes hold an empty or endlessly repeated answer"
        yield "BROKEN", f"{words}; the limit is {BROKEN_SHARE:.0%}"
    before, of = start or (0, 0)
    if at_limit > AT_LIMIT * n and (not of or at_limit * of > before * n):
        words = f"{at_limit} of {n} episodes end at the turn limit"
        beside = f", {before} of {of} at the start" if of else ""
        yield "TURN_LIMIT", f"{words}{beside}; the limit is {AT_LIMIT:.0%}"


def broken(text: str) -> str | None:
    """How an answer is broken: ``empty`` or ``repeated``; None where it is not."""
    if not text.strip():
        return "empty"
    for size in range(1, UNIT + 1):
        times = max(TIMES, -(-SHORTEST // size))
        if text.endswith(text[-size:] * times):
            return "repeated"
    return None


def reason_of(found: str | None, at_limit: bool) -> str | None:
    """The reason of a verdict that tells how its episode went; None where nothing is to be told."""
    words = [*([BROKEN_OUTPUT + found] if found else []), *([LIMIT_REACHED] if at_limit else [])]
    return "; ".join(words) or None
