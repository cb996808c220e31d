"""Circuit breakers are one version's alone, so what they refuse is no fair comparison of two versions as it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from gateway.breaker import Breaker, Limits
from rl.anytime import log_mixed
from rl.live import SLOTS, Slot, stretches
from rl.sequential import Attempts, Failures, Rules, failed

SECONDS = 10
HOURS = 24
LEAD, WAKE = 20.0, 90.0
"""Seconds before and after a fault in which every call is played; between faults calls are only counted."""

Fails = Callable[[bool, float], bool]
"""Whether a call of the version fails; ``float`` is even in [0, 1)."""


def both(number: int, canary: tuple[int, int, int], stable: tuple[int, int, int]) -> list[Slot]:
    """(n, failed, refused) of both versions in a slot of the first stage."""
    return [Slot(0, number, True, *canary), Slot(0, number, False, *stable)]


def test_a_slot_in_which_either_was_refused_is_left_out_for_both() -> None:
    slots = [
        *both(0, (10, 1, 0), (20, 2, 0)),
        *both(1, (10, 3, 5), (20, 4, 0)),
        *both(2, (10, 0, 0), (20, 5, 9)),
        *both(3, (10, 0, 0), (20, 0, 0)),
        *both(4, (10, 0, 0), (20, 0, 0)),
    ]
    assert stretches(slots) == [Attempts((1, 30), (2, 60))]


def test_what_one_alone_was_refused_in_most_of_its_slots_has_failed() -> None:
    slots = [
        *both(0, (10, 5, 2), (20, 0, 0)),
        *both(1, (10, 1, 9), (20, 1, 0)),
        *both(2, (10, 0, 0), (20, 0, 0)),
        *both(3, (10, 1, 9), (20, 7, 5)),
        *both(4, (10, 1, 9), (20, 0, 0)),
        Slot(0, 5, False, 20, 0, 0),
    ]
    assert stretches(slots) == [Attempts((27, 40), (1, 100))]
    assert stretches([slot._replace(is_canary=not slot.is_canary) for slot in slots]) == [Attempts((1, 100), (27, 40))]


def test_the_calls_of_one_unit_are_left_out_in_the_slots_that_count() -> None:
    slots = [
        *both(0, (10, 5, 0), (20, 2, 0)),
        *both(1, (10, 3, 5), (20, 4, 0)),
        *both(2, (10, 1, 0), (20, 0, 0)),
    ]
    of_one = {0: (2, 2, 0), 1: (4, 3, 1), 2: (1, 0, 0)}
    slots = [one._replace(of_one=of_one[one.number]) if one.is_canary else one for one in slots]
    assert stretches(slots) == [Attempts((6, 20), (2, 40), (4, 17))]
    broken = [one._replace(refused=9, failed=1, of_one=(4, 1, 3)) if one.is_canary else one for one in slots[:2]]
    assert stretches(broken) == [Attempts((10, 10), (2, 20), (6, 6))]


def test_half_of_the_slots_is_not_most_of_them() -> None:
    slots = [*both(0, (10, 1, 9), (20, 0, 0)), *both(1, (10, 2, 0), (20, 1, 0))]
    assert stretches(slots) == [Attempts((2, 10), (1, 20))]


def test_a_fault_of_both_is_neither_ones() -> None:
    slots = [*both(0, (10, 1, 9), (20, 1, 19)), *both(1, (10, 1, 9), (20, 1, 19)), *both(2, (10, 0, 0), (20, 1, 0))]
    assert stretches(slots) == [Attempts((0, 10), (1, 20))]


def test_stretches_are_ten_minutes_of_one_stage_in_their_order() -> None:
    slots = [Slot(1, 5, True, 1, 0, 0), Slot(0, SLOTS, True, 2, 0, 0), Slot(0, SLOTS - 1, True, 3, 1, 0)]
    assert stretches(slots) == [Attempts((1, 3), (0, 0)), Attempts((0, 2), (0, 0)), Attempts((0, 1), (0, 0))]
    assert stretches([]) == []


def played(
    rng: np.random.Generator, rate: float, share: float, faults: Iterable[float], long: float, fails: Fails
) -> list[Slot]:
    """A day of ``rate`` calls a second, with faults that begin at ``faults`` and are so many seconds ``long``.

    Each version has a breaker of its own, as the gateway gives it.
    """
    counts: dict[tuple[int, bool], list[int]] = defaultdict(lambda: [0, 0, 0])
    breakers = {True: Breaker(Limits()), False: Breaker(Limits())}
    for begin in faults:
        number = rng.poisson(rate * (LEAD + long + WAKE))
        times = np.sort(rng.uniform(begin - LEAD, begin + long + WAKE, number))
        draws = zip(times.tolist(), (rng.random(number) < share).tolist(), rng.random(number).tolist(), strict=True)
        for now, mine, chance in draws:
            cell = counts[int(now // SECONDS), mine]
            cell[0] += 1
            permit = breakers[mine].enter(now)
            if permit is None:
                cell[2] += 1
            elif begin <= now < begin + long and fails(mine, chance):
                breakers[mine].failed(permit, now)
                cell[1] += 1
            else:
                breakers[mine].succeeded(permit)
    for mine, part in ((True, share), (False, 1 - share)):
        quiet = rng.poisson(rate * part * SECONDS, HOURS * 3600 // SECONDS).tolist()
        for number, n in enumerate(quiet):
            if n and (number, mine) not in counts:
                counts[number, mine] = [n, 0, 0]
    return [Slot(0, number, mine, *cell) for (number, mine), cell in counts.items()]


def is_rolled_back(attempts: Iterable[Attempts], rules: Rules) -> bool:
    """Whether a look after any of the stretches says that the canary fails."""
    failures = Failures()
    for one in attempts:
        failures = failed(failures, one, rules.failure_ratio)
        if log_mixed(failures.logs) >= -math.log(rules.alpha):
            return True
    return False


def plainly(slots: list[Slot], refused: int) -> list[Attempts]:
    """The stretches if what was refused had simply failed, or with 0 had not been."""
    rows = [
        one._replace(n=one.n - (1 - refused) * one.refused, failed=one.failed + refused * one.refused) for one in slots
    ]
    return stretches([one._replace(refused=0) for one in rows])


def day(seed: int, rate: float, share: float, long: float, fails: Fails) -> list[Slot]:
    """A day with one fault in each hour, at any moment of it."""
    rng = np.random.default_rng(seed)
    faults = [hour * 3600 + rng.uniform(LEAD, 3600 - long - WAKE) for hour in range(HOURS)]
    return played(rng, rate, share, faults, long, fails)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "share", "long", "loss"), [(20, 0.5, 2, 0.5), (20, 0.1, 5, 0.5), (5, 0.5, 2, 0.9)])
def test_equal_versions_whose_engine_has_faults_are_not_rolled_back(
    rate: float, share: float, long: float, loss: float
) -> None:
    trials = 20
    days = [day(seed, rate, share, long, lambda _, chance: chance < loss) for seed in range(trials)]
    assert sum(is_rolled_back(stretches(one), Rules()) for one in days) <= 0.05 * trials
    either = [sum(is_rolled_back(plainly(one, refused), Rules()) for one in days) for refused in (0, 1)]
    assert max(either) > 0.25 * trials, "what the rule is for"


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("rate", [0.2, 2.0, 20.0])
def test_a_version_that_alone_fails_always_is_rolled_back_within_an_hour(rate: float, share: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        slots = played(rng, rate, share, [LEAD], 3600 - LEAD - WAKE, lambda mine, _: mine)
        hour = [one for one in slots if one.number < 3600 // SECONDS]
        assert is_rolled_back(stretches(hour), Rules())
        swapped = stretches([one._replace(is_canary=not one.is_canary) for one in hour])
        assert not is_rolled_back(swapped, Rules()), "nor is one whose stable version fails"
