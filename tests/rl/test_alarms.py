from __future__ import annotations

import pytest

from rl.alarms import Alarm, alarms
from rl.selection import Candidate
from tests.rl.published_run import RATES, SIZES, SUCCESSES


def one(step: int, k: int, n: int = 100) -> Candidate:
    return Candidate(step=step, types={"all": (k, n)})


def two(step: int, a: int, b: int, n: int = 100) -> Candidate:
    return Candidate(step=step, types={"a": (a, n), "b": (b, n)})


def names(found: list[Alarm]) -> list[tuple[int, str]]:
    return [(alarm.step, alarm.name) for alarm in found]


def test_the_published_run() -> None:
    candidates = [
        Candidate(step=step, types=dict(zip(SIZES, zip(ks, SIZES.values(), strict=True), strict=True)))
        for step, ks in SUCCESSES.items()
    ]
    training = {step: row[4] for step, row in RATES.items() if row[4] is not None}
    found = alarms(candidates, training)
    assert names(found) == [(26, "COLLAPSE"), (26, "FORGETTING"), (38, "COLLAPSE"), (38, "FORGETTING")]
    assert found[0].evidence == (
        "training score 0.4311 is 77.5% of its highest so far, 0.5562 at step 13; the limit is 80%"
    )
    assert found[1].evidence == (
        "retrieval 13/16 against 15/16 at the best step so far, 21 (P worse 0.8324); "
        "update 2/6 against 4/6 at the best step so far, 21 (P worse 0.8569)"
    )
    assert "retrieval 10/16 against 15/16" in found[3].evidence
    assert alarms(candidates[::-1], training) == found


@pytest.mark.parametrize(
    ("training", "fires"),
    [
        ({}, []),
        ({1: 0.5}, []),
        ({1: 0.5, 2: 0.4}, []),  # four fifths are not below four fifths
        ({1: 0.55, 2: 0.44}, []),  # nor in binary
        ({1: 0.5, 2: 0.399}, [2]),
        ({1: 0.5, 2: 0.3, 3: 0.6, 4: 0.47}, [2, 4]),
        ({1: -1.0, 2: -3.0}, []),
        ({1: 0.0, 2: -3.0}, []),
        ({1: 1.0, 2: -3.0}, [2]),
    ],
)
def test_collapse_is_below_four_fifths_of_the_highest_so_far(training: dict[int, float], fires: list[int]) -> None:
    assert names(alarms([], training)) == [(step, "COLLAPSE") for step in fires]


def test_overoptimisation_is_more_training_score_for_worse_results() -> None:
    candidates = [one(0, 40), one(10, 80), one(20, 60)]
    found = alarms(candidates, {10: 0.5, 20: 0.5})
    assert (20, "OVEROPTIMISATION") in names(found)
    assert found[-1].evidence == (
        "training score 0.5 is not below the 0.5 of the best step so far, 10, while held-out 60/100 against 80/100 "
        "is worse (P 0.9990)"
    )
    assert (20, "OVEROPTIMISATION") not in names(alarms(candidates, {10: 0.5, 20: 0.49}))
    assert (20, "OVEROPTIMISATION") not in names(alarms(candidates, {20: 0.6}))
    assert (20, "OVEROPTIMISATION") not in names(alarms([*candidates[:2], one(20, 75)], {10: 0.5, 20: 0.6}))


def test_a_step_is_held_against_what_was_best_by_then() -> None:
    """Step 20 is alarming although step 30 turns out best; step 10 is not, although step 30 is better."""
    candidates = [one(0, 20), one(10, 60), one(20, 30), one(30, 90)]
    found = alarms(candidates, {10: 0.5, 20: 0.9, 30: 0.95})
    assert names(found) == [(20, "FORGETTING"), (20, "OVEROPTIMISATION")]
    assert alarms(candidates[:3], {10: 0.5, 20: 0.9}) == found


def test_forgetting_names_step_0_and_the_best() -> None:
    found = alarms([two(0, 50, 50), two(10, 90, 60), two(20, 80, 40)], {})
    assert names(found) == [(20, "FORGETTING")]
    for words in ("b 40/100 against 50/100 at step 0 (P worse 0.9214)", "a 80/100 against 90/100", "so far, 10 (P"):
        assert words in found[0].evidence


def test_a_vetoed_step_is_never_the_best() -> None:
    """Step 10 forgot b: step 20 is held against step 0 alone."""
    found = alarms([two(0, 50, 50), two(10, 100, 30), two(20, 70, 55)], {10: 0.1, 20: 0.9})
    assert names(found) == [(10, "FORGETTING")]


def test_without_a_step_0_the_first_is_the_best_so_far() -> None:
    assert names(alarms([one(10, 80), one(20, 40)], {})) == [(20, "FORGETTING")]


def test_the_base_is_never_alarming() -> None:
    assert alarms([one(0, 10)], {0: 0.5}) == []
