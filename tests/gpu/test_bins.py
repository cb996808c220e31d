"""Bins keep every term once and their budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu.bins import Layout, measure, pack
from gpu.tries import Trie
from rl.records import Sequence

Rows = list[list[list[int]]]


def groups_of(rows: Rows) -> list[list[Sequence]]:
    return [[Sequence(episode=0, ids=ids, mask=[1] * len(ids), logprobs=[0.0] * len(ids)) for ids in g] for g in rows]


def answers(prompt: list[int], lengths: list[int], first: int = 1000) -> list[list[int]]:
    """Sequences that share ``prompt`` and nothing behind it."""
    return [prompt + [first + 100 * index + at for at in range(length)] for index, length in enumerate(lengths)]


def samples(bins: list[Trie]) -> list[set[int]]:
    return [set(one.terms.sample.tolist()) for one in bins]


def cost(one: Trie, rows: list[list[int]], layout: Layout) -> int:
    if layout != "padded":
        return len(one)
    lengths = [len(rows[i]) for i in set(one.terms.sample.tolist())]
    return len(lengths) * max(lengths)


@given(
    st.lists(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=14), max_size=5), max_size=5),
    st.integers(5, 40),
    st.sampled_from(["tree", "packed", "padded"]),
    st.integers(1, 3),
)
def test_every_term_once_and_the_budget_kept(rows: Rows, budget: int, layout: Layout, least: int) -> None:
    flat = [ids for group in rows for ids in group]
    bins = pack(groups_of(rows), budget, layout, least_shared=least)
    found = [
        (int(sample), int(position))
        for one in bins
        for sample, position in zip(one.terms.sample, one.terms.position, strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == {(sample, at) for sample, ids in enumerate(flat) for at in range(1, len(ids))}
    for one in bins:
        assert cost(one, flat, layout) <= budget or len(set(one.terms.sample.tolist())) == 1
    if layout != "tree":
        assert sum(len(one) for one in bins) == sum(map(len, flat))


def test_shares_are_counted() -> None:
    shares = measure(groups_of([answers(list(range(512)), [128] * 8)]))
    assert (shares.unique, shares.sequence, shares.padded) == (512 + 8 * 128, 8 * 640, 8 * 640)
    assert shares.prefix == pytest.approx(0.7)
    assert shares.token_ratio == pytest.approx(10 / 3)
    ragged = measure(groups_of([answers(list(range(20)), [5, 30]), [[1, 2, 3]]]))
    assert (ragged.unique, ragged.sequence, ragged.padded) == (55 + 3, 25 + 50 + 3, 2 * 50 + 3)
    assert measure([]).prefix == 0.0


def test_groups_stay_together_and_larger_ones_go_first() -> None:
    small, large, middle = (answers(list(range(at, at + 20)), [10, n]) for at, n in ((0, 10), (100, 50), (200, 30)))
    bins = pack(groups_of([small, large, middle]), 120)
    assert samples(bins) == [{0, 1, 2, 3}, {4, 5}]
    assert [len(one) for one in bins] == [80 + 40, 60]


def test_a_group_over_the_budget_is_cut_where_least_is_lost() -> None:
    branches = [answers([*range(20), *range(at, at + 20)], [10, 10], first) for at, first in ((50, 1000), (80, 3000))]
    interleaved = [branches[0][0], branches[1][0], branches[0][1], branches[1][1]]
    bins = pack(groups_of([interleaved]), 60)
    assert samples(bins) == [{0, 2}, {1, 3}]
    assert [len(one) for one in bins] == [60, 60]


def test_groups_with_one_system_prompt_share_it() -> None:
    system = list(range(30))
    groups = [answers(system + [at] * 5, [10, 10], at * 1000) for at in (50, 60)]
    assert [len(one) for one in pack(groups_of(groups), 80)] == [30 + 2 * 25]
    assert [len(one) for one in pack(groups_of(groups), 79)] == [55, 55]


def test_a_sample_over_the_budget_has_a_bin_of_its_own() -> None:
    bins = pack(groups_of([[list(range(50)), list(range(100, 105))]]), 20)
    assert samples(bins) == [{0}, {1}]


def test_padded_bins_hold_rows_of_like_length() -> None:
    rows = [list(range(100 * at, 100 * at + length)) for at, length in enumerate([30, 4, 29, 5])]
    assert samples(pack(groups_of([rows]), 60, "padded")) == [{1, 3}, {0, 2}]
