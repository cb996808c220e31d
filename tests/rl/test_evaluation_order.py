from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.evaluation_order import order, ranks


@pytest.mark.parametrize(
    ("count", "judged", "expected"),
    [
        (0, (), []),
        (1, (), [0]),
        (2, (), [1, 0]),
        (5, (), [4, 0, 2, 3, 1]),
        (9, (), [8, 0, 4, 6, 2, 7, 5, 3, 1]),
        (9, (0, 4), [8, 6, 2, 7, 5, 3, 1]),
        (6, (0, 5), [3, 2, 4, 1]),
        (3, (0, 1, 2), []),
    ],
)
def test_the_newest_first_then_the_start_then_the_middle_of_the_widest_gap(
    count: int, judged: tuple[int, ...], expected: list[int]
) -> None:
    assert order(count, judged) == expected


def test_ranks_count_what_is_evaluated_before() -> None:
    assert ranks(5, (0,)) == {4: 0, 2: 1, 3: 2, 1: 3}


SOME = st.integers(1, 40).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1))))


@given(SOME)
def test_each_that_is_not_judged_comes_once_and_the_newest_of_all_first(some: tuple[int, set[int]]) -> None:
    count, judged = some
    found = order(count, judged)
    assert sorted(found) == sorted(set(range(count)) - judged)
    if count - 1 not in judged:
        assert found[0] == count - 1


@given(SOME)
def test_each_further_one_halves_the_widest_gap_that_there_is(some: tuple[int, set[int]]) -> None:
    count, judged = some
    known = judged | {0, count - 1}
    for place in order(count, judged | known):
        gaps = [(high - low, low, high) for low, high in zip(sorted(known), sorted(known)[1:], strict=False)]
        width, low, high = max(gap for gap in gaps if gap[1] < place < gap[2])
        assert width == max(gaps)[0]
        assert max(place - low, high - place) <= (width + 1) // 2
        known.add(place)


@given(SOME)
def test_stopping_after_any_number_and_looking_again_goes_on_in_the_same_order(some: tuple[int, set[int]]) -> None:
    count, judged = some
    found = order(count, judged)
    for done in range(len(found) + 1):
        assert order(count, judged | set(found[:done])) == found[done:]
