from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidInput
from rl.mix import Dealt, Member, around, block_of, deal, members, size

WEIGHTS = st.lists(st.integers(1, 7), min_size=2, max_size=5)


def _mix(weights: list[int]) -> tuple[Member, ...]:
    names = (f"e{place}" if weight == 1 else f"e{place}*{weight}" for place, weight in enumerate(weights))
    return members("+".join(names))


def test_members_have_places_in_each_block() -> None:
    mixed = members("sat-small+reasoning-gym:gcd*2+ded")
    assert mixed == (Member("sat-small", 1, 0), Member("reasoning-gym:gcd", 2, 1), Member("ded", 1, 3))
    assert block_of(mixed) == 4


def test_what_is_no_mix_is_its_own_only_member() -> None:
    (alone,) = members("sat")
    assert alone == Member("sat", 1, 0)
    assert deal((alone,), 17) == Dealt("sat", 17)


def test_seeds_are_dealt_in_blocks() -> None:
    mixed = members("a+b*2")
    assert [deal(mixed, seed) for seed in range(7)] == [
        *(Dealt("a", 0), Dealt("b", 0), Dealt("b", 1)),
        *(Dealt("a", 1), Dealt("b", 2), Dealt("b", 3)),
        Dealt("a", 2),
    ]


@given(weights=WEIGHTS, blocks=st.integers(1, 4))
def test_each_block_holds_every_share_and_no_seed_comes_twice(weights: list[int], blocks: int) -> None:
    mixed = _mix(weights)
    dealt = [deal(mixed, seed) for seed in range(blocks * sum(weights))]
    assert Counter(one.environment for one in dealt) == {f"e{p}": blocks * weight for p, weight in enumerate(weights)}
    for place, weight in enumerate(weights):
        assert [one.seed for one in dealt if one.environment == f"e{place}"] == list(range(blocks * weight))


@given(weights=WEIGHTS, sizes=st.lists(st.none() | st.integers(0, 20), min_size=5, max_size=5))
def test_the_size_is_where_the_first_member_runs_out(weights: list[int], sizes: list[int | None]) -> None:
    mixed = _mix(weights)
    by_name = {f"e{place}": least for place, least in enumerate(sizes)}
    found = size(mixed, by_name)

    def is_there(seed: int) -> bool:
        name, inner = deal(mixed, seed)
        least = by_name[name]
        return least is None or inner < least

    if found is None:
        assert all(least is None for least in sizes[: len(weights)])
    else:
        assert all(is_there(seed) for seed in range(found))
        assert not is_there(found)


@given(
    weights=WEIGHTS, sizes=st.lists(st.none() | st.integers(1, 20), min_size=5, max_size=5), seed=st.integers(0, 10**6)
)
def test_a_seed_goes_around_within_its_member(weights: list[int], sizes: list[int | None], seed: int) -> None:
    mixed = _mix(weights)
    by_name = {f"e{place}": least for place, least in enumerate(sizes)}
    owner, own = deal(mixed, seed)
    least = by_name[owner]
    assert deal(mixed, around(mixed, by_name, seed)) == Dealt(owner, own if least is None else own % least)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sat+sat", r"sat is in it twice.*sat\*2"),
        ("sat+ded+sat*2", "sat is in it twice"),
        ("sat*2", "leave it out"),
        ("sat+", "with \\+ between them"),
        ("sat+ded*1", "where it has more weight"),
        ("sat+ded*0", "where it has more weight"),
        ("sat+ded*1000", "where it has more weight"),
        ("sat + ded", "with \\+ between them"),
        ("sat/x+ded", "with \\+ between them"),
        ("", "with \\+ between them"),
    ],
)
def test_a_name_that_is_no_mix_is_refused(name: str, remedy: str) -> None:
    with pytest.raises(InvalidInput, match=remedy):
        members(name)
