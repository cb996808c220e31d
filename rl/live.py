"""One look at a live canary: what was seen of it and of the stable version, what that says, and what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rl.contrast import Reward
from rl.records import Record
from rl.release_plan import Plan
from rl.sequential import Attempts, State, Verdict, look, update
from rl.stages import Progress, Stage, Step, step

SLOTS = 60
"""In a stretch of time: ten minutes of ten seconds, which is how long a circuit breaker keeps calls away."""


class Slot(NamedTuple):
    """Calls of one version within ten seconds. ``number`` counts tens of seconds, ``stage`` times with the same shares.

    Of ``n`` calls ``failed`` were asked and not answered, and ``refused`` were not asked: a circuit breaker was open.
    ``of_one`` is (n, failed, refused) of the one unit with most of the canary's failures, of those of the canary.
    """

    stage: int
    number: int
    is_canary: bool
    n: int
    failed: int
    refused: int
    of_one: tuple[int, int, int] = (0, 0, 0)


class Counted(Record):
    """Trajectories since the canary began, by who answered them. Those of ``several`` versions count for none."""

    canary: int = 0
    stable: int = 0
    several: int = 0


@dataclass(frozen=True)
class Seen:
    """What the rows say of a canary since it began.

    ``rewards`` are by signal, in the order in which the signals first came; their ``stage`` numbers stretches of time
    with the same shares, and ``here`` are those of the share that the canary has. ``hours`` and ``requests``, which
    include failed ones, are counted at this share.
    """

    hours: float
    requests: int
    rewards: Mapping[str, Sequence[Reward]] = field(default_factory=dict)
    here: frozenset[int] = frozenset()
    attempts: Sequence[Attempts] = ()
    counted: Counted = field(default_factory=Counted)


class Look(Record):
    """What a look said, as it is stored on the release row. ``following`` is the next stage, None at the last one."""

    verdict: Verdict
    step: Step
    progress: Progress
    counted: Counted
    here: Stage
    following: Stage | None

    @property
    def is_starving(self) -> bool:
        """Whether the stage's time is over and the primary signal has too few rewards to say anything."""
        patience = self.here.soak_hours or Stage.model_fields["soak_hours"].default
        return self.verdict.say == "wait" and self.step.action == "hold" and self.progress.hours >= patience


def looked(seen: Seen, plan: Plan, place: int) -> Look:
    """The test and the stages, applied to everything that was seen.

    Raises:
        InvalidInput: the plan has no stage ``place``; or a reward or a count that cannot be.
    """
    said = look(update(State(), plan.rules, seen.rewards, seen.attempts), plan.rules)
    known = [one for one in seen.rewards.get(plan.rules.primary, ()) if one.is_canary]
    progress = Progress(
        stage=place,
        hours=max(seen.hours, 0.0),
        requests=seen.requests,
        rewards=sum(one.n for one in known if one.stage in seen.here),
        rewards_altogether=sum(one.n for one in known),
    )
    done = step(plan.stages, progress, said)
    if plan.hold and said.say != "roll back":
        done = _held(plan, said)
    stages = plan.stages.stages
    return Look(
        verdict=said,
        step=done,
        progress=progress,
        counted=seen.counted,
        here=stages[place],
        following=stages[place + 1] if place + 1 < len(stages) else None,
    )


def _held(plan: Plan, said: Verdict) -> Step:
    reason = f"it keeps its share until a person ends the test; {said.reason}"
    return Step(action="hold", share=plan.stages.stages[0].share, reason=reason)


def stretches(slots: Iterable[Slot]) -> list[Attempts]:
    """Failed and all calls of both versions in each stretch of time, in the stretches' order.

    A breaker is one version's alone: a short fault of the engine that both share may open either, and then refuses that
    one all its calls for a while. So a slot in which either was refused any says nothing, and is left out for both. A
    version whose own fault it is stays refused: where that happened to it alone in more than half of the slots in which
    it had calls, its refused calls have failed. What is left of the canary's calls without those of one unit is counted
    in the same slots.
    """
    found: dict[tuple[int, int], dict[int, dict[bool, Slot]]] = defaultdict(lambda: defaultdict(dict))
    for one in slots:
        found[one.stage, one.number // SLOTS][one.number][one.is_canary] = one
    return [_attempts(list(by_number.values())) for _, by_number in sorted(found.items())]


def _attempts(slots: Sequence[Mapping[bool, Slot]]) -> Attempts:
    broken = {version for version in (True, False) if _is_refused_alone(slots, version)}
    kept = [slot for slot in slots if not any(one.refused and mine not in broken for mine, one in slot.items())]
    canary, stable = _sums(kept, True), _sums(kept, False)
    of_one = [slot[True].of_one for slot in kept if True in slot]
    failed, n = sum(one[1] + one[2] for one in of_one), sum(one[0] for one in of_one)
    return Attempts(canary, stable, (canary[0] - failed, canary[1] - n) if n else None)


def _sums(slots: Iterable[Mapping[bool, Slot]], version: bool) -> tuple[int, int]:
    """Failed and all calls of the version."""
    mine = [slot[version] for slot in slots if version in slot]
    return sum(one.failed + one.refused for one in mine), sum(one.n for one in mine)


def _is_refused_alone(slots: Sequence[Mapping[bool, Slot]], version: bool) -> bool:
    """Whether the version was refused, and the other was not, in more than half of the slots that had its calls."""
    mine = [slot for slot in slots if version in slot]
    alone = sum(slot[version].refused > 0 and not _refused(slot, not version) for slot in mine)
    return 2 * alone > len(mine)


def _refused(slot: Mapping[bool, Slot], version: bool) -> int:
    return slot[version].refused if version in slot else 0
