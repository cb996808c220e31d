"""Which checkpoints stay, by hand and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.checkpoint_retention import BEST, LAST, NAMED, OWN, TIED, UNDECIDED, Training, kept, removable
from rl.errors import InvalidInput

STEPS = (10, 20, 30, 40, 50, 60)


def judged(**counts: tuple[int, int]) -> dict[int, dict[str, tuple[int, int]]]:
    return {int(step[1:]): {"move": count} for step, count in counts.items()}


def training(**changes: object) -> Training:
    return Training.model_validate({"steps": STEPS, "own": 30, "decided": True} | changes)


def test_nothing_goes_before_the_version_is_decided() -> None:
    found = kept(training(decided=False, judged={"v": judged(s10=(1, 100), s20=(99, 100))}), 0)
    assert found == dict.fromkeys(STEPS, UNDECIDED)


def test_its_own_and_the_last_stay() -> None:
    assert kept(training(), 2) == {30: OWN, 50: LAST, 60: LAST}
    assert removable(training(), 2) == [10, 20, 40]
    assert kept(training(), 0) == {30: OWN}
    assert list(kept(training(), 99)) == list(STEPS)


def test_the_best_and_what_the_data_do_not_tell_from_it_stay() -> None:
    counts = judged(s10=(50, 100), s20=(80, 100), s30=(79, 100), s40=(60, 100), s50=(61, 100), s60=(40, 100))
    assert kept(training(judged={"v": counts}), 0) == {20: BEST, 30: BEST}
    other = judged(s10=(90, 100), s20=(10, 100), s30=(10, 100), s40=(10, 100), s50=(10, 100), s60=(10, 100))
    assert sorted(kept(training(judged={"v": counts, "w": other}), 0)) == [10, 20, 30]


def test_verdicts_that_cannot_be_ranked_give_nothing_up() -> None:
    short = judged(s10=(80, 100), s20=(40, 90), s40=(10, 100))
    assert kept(training(judged={"v": short}), 0) == {10: TIED, 20: TIED, 30: OWN, 40: TIED}
    other = {10: {"move": (80, 100)}, 20: {"fetch": (40, 100)}}
    assert sorted(kept(training(judged={"v": other}), 0)) == [10, 20, 30]
    assert sorted(kept(training(judged={"v": {10: {}, 20: {"move": (1, 2)}}}), 0)) == [10, 20, 30]


def test_what_a_decision_names_and_what_others_need_stays() -> None:
    found = kept(training(named=frozenset({20, 99}), needed={50: "babylon-agent-v1.0.4"}), 0)
    assert found == {20: NAMED, 30: OWN, 50: "needed: babylon-agent-v1.0.4"}


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="0 or more"):
        kept(training(), -1)


@given(
    st.sets(st.integers(0, 50), min_size=1, max_size=8),
    st.integers(0, 9),
    st.dictionaries(st.integers(0, 50), st.integers(0, 40), max_size=8),
    st.booleans(),
    st.data(),
)
def test_whatever_the_verdicts_the_own_the_best_and_the_last_are_kept(
    steps: set[int], last: int, successes: dict[int, int], decided: bool, data: st.DataObject
) -> None:
    own = data.draw(st.sampled_from(sorted(steps)))
    known = {step: {"move": (k, 40)} for step, k in successes.items() if step in steps}
    one = Training(steps=tuple(steps), own=own, decided=decided, judged={"v": known} if known else {})
    stays, goes = set(kept(one, last)), set(removable(one, last))
    assert stays | goes == steps
    assert not stays & goes
    assert {own, *sorted(steps)[len(steps) - min(last, len(steps)) :]} <= stays
    if known:
        assert max(known, key=lambda step: known[step]["move"][0]) in stays
    assert decided or not goes
