import pytest

from rl.errors import InvalidInput
from rl.filtering import fresh, informative


def test_groups_that_all_fail_or_all_succeed_are_left_out() -> None:
    scores = [1, 1, 0, 0, 1, 0, 1]
    groups = ["all", "all", "none", "none", "mixed", "mixed", "lone"]
    assert informative(scores, groups).tolist() == [False, False, False, False, True, True, False]


def test_the_bounds_are_strict_and_may_be_moved() -> None:
    scores, groups = [1, 0, 0, 0, 1, 1], ["quarter"] * 4 + ["one"] * 2
    assert informative(scores, groups, 0.25, 1.5).tolist() == [False] * 4 + [True] * 2
    assert informative(scores, groups, 0.2, 0.3).tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("n", [3, 6, 7, 9])
def test_equal_scores_on_a_bound_do_not_round_past_it(n: int) -> None:
    for score in (0.1, 0.45, 0.7):
        assert not informative([score] * n, ["a"] * n, score, 2.0).any()
        assert not informative([score] * n, ["a"] * n, -1.0, score).any()


def test_bounds_that_keep_nothing_and_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"filter\.low = 1\.0: set less than filter\.high = 1\.0"):
        informative([1], ["a"], 1.0, 1.0)
    with pytest.raises(InvalidInput, match="1 for 2 scores"):
        informative([1, 2], ["a"])
    assert informative([], []).shape == (0,)


def test_versions_too_far_behind_are_not_fresh() -> None:
    assert fresh([0, 1, 2, 3], 2).tolist() == [True, True, True, False]
    assert fresh([0, 1], 0).tolist() == [True, False]
    assert fresh([0, 99], None).tolist() == [True, True]
    assert fresh([], 3).shape == (0,)
    with pytest.raises(InvalidInput, match="behind = -1"):
        fresh([0, -1], 2)
