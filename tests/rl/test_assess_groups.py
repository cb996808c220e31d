"""Moments of groups, against numpy over each group's values."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl import assess_groups
from rl.assess_groups import Groups, key_of, merged

VALUES = st.lists(st.tuples(st.integers(0, 5), st.floats(-1e6, 1e6)), max_size=60)


def filled(values: list[tuple[int, float]]) -> Groups:
    groups = Groups()
    for key, value in values:
        groups.add(key, value)
    return groups


@given(VALUES, st.integers(1, 7))
def test_moments_are_those_of_each_group_however_often_they_are_folded(
    values: list[tuple[int, float]], pending: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assess_groups, "PENDING", pending)
        found = filled(values).moments()
    keys = sorted({key for key, _ in values})
    assert found.key.tolist() == keys
    for place, key in enumerate(keys):
        group = np.array([value for one, value in values if one == key])
        assert found.count[place] == len(group)
        np.testing.assert_allclose(found.mean[place], group.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.squares[place], ((group - group.mean()) ** 2).sum(), rtol=1e-6, atol=1e-3)


@given(st.floats(-1e9, 1e9), st.integers(1, 30), st.integers(1, 5))
def test_equal_values_differ_by_exactly_nothing(value: float, count: int, pending: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assess_groups, "PENDING", pending)
        found = filled([(1, value)] * count).moments()
    assert (found.squares.tolist(), found.mean.tolist()) == ([0.0], [value])
    assert not found.differing.any()


def test_spread_is_the_mean_of_unbiased_variances() -> None:
    # 1, 3: variance 2. 5, 5, 8: mean 6, variance (1 + 1 + 4) / 2 = 3. 7 is alone.
    found = filled([(1, 1.0), (2, 5.0), (1, 3.0), (2, 5.0), (3, 7.0), (2, 8.0)]).moments()
    assert found.spread() == pytest.approx(2.5)
    assert found.sizes() == {1: 1, 2: 1, 3: 1}
    assert found.differing.tolist() == [True, True, False]


def test_nothing_has_no_spread() -> None:
    empty = Groups().moments()
    assert (empty.spread(), empty.sizes()) == (None, {})
    assert filled([(1, 2.0)]).moments().spread() is None
    assert merged(empty, filled([(9, 2.0)]).moments()).key.tolist() == [9]


def test_a_part_of_the_groups_can_be_kept() -> None:
    groups = filled([(key, float(key)) for key in range(10)])
    groups.keep(4)
    assert (groups.moments().key.tolist(), groups.moments().mean.tolist()) == ([0, 4, 8], [0.0, 4.0, 8.0])


def test_keys_tell_the_parts_apart() -> None:
    assert key_of("a", "b") == key_of("a", "b") != key_of("ab") != key_of("b", "a")
    assert 0 <= key_of("\ud800") < 2**64


@pytest.mark.slow
def test_a_million_values_of_one_group_take_no_more_room_than_a_thousand() -> None:
    tracemalloc.start()
    groups = Groups()
    for number in range(1_000_000):
        groups.add(number % 1000, float(number % 7))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert groups.moments().count.tolist() == [1000] * 1000
    assert held < 8 * 2**20
