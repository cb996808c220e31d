"""Tries against hand-made ones, and against the sequences they were made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu.tries import NOTHING_SHARED, Trie, build, common_prefix
from rl.errors import InvalidInput
from rl.records import Sequence


def spoken(ids: list[int], first: int, old: float = -1.0) -> Sequence:
    """A sequence whose tokens from ``first`` on were spoken."""
    mask = [int(at >= first) for at in range(len(ids))]
    return Sequence(episode=0, ids=ids, mask=mask, logprobs=[old * one for one in mask])


def way(trie: Trie, token: int) -> list[int]:
    """The ids from the root to ``token``."""
    ids = []
    while token >= 0:
        ids.append(int(trie.ids[token]))
        token = int(trie.parent[token])
    return ids[::-1]


def test_two_answers_to_one_prompt() -> None:
    trie = build([spoken([5, 6, 9, 4], 2, -0.5), spoken([5, 6, 7, 8, 3], 2, -0.25)], least_shared=1)
    assert trie.ids.tolist() == [5, 6, 7, 8, 3, 9, 4]
    assert trie.depth.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert trie.parent.tolist() == [-1, 0, 1, 2, 3, 1, 5]
    assert trie.start.tolist() == [0, 2, 5]
    assert trie.end.tolist() == [2, 5, 7]
    assert trie.last.tolist() == [7, 5, 7]
    assert trie.above.tolist() == [-1, 0, 0]
    assert trie.terms.token.tolist() == [2, 3, 4, 5, 6]
    assert trie.terms.sample.tolist() == [1, 1, 1, 0, 0]
    assert trie.terms.position.tolist() == [2, 3, 4, 2, 3]
    assert trie.terms.old_logp.tolist() == [-0.25, -0.25, -0.25, -0.5, -0.5]
    assert trie.terms.spoken.all()
    assert trie.sequence_tokens == 9
    assert [path.tolist() for path in trie.paths()] == [[0, 1, 2, 3, 4], [0, 1, 5, 6]]


def test_a_branch_within_a_branch() -> None:
    trie = build([spoken([1, 2, 3, 4], 1), spoken([1, 2, 3, 5], 1), spoken([1, 6], 1), spoken([7], 0)], least_shared=1)
    assert trie.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert trie.start.tolist() == [0, 1, 3, 4, 5, 6]
    assert trie.last.tolist() == [6, 5, 4, 5, 6, 7]
    assert trie.above.tolist() == [-1, 0, 1, 1, 0, -1]
    assert trie.segment_last.tolist() == [6, 5, 5, 4, 5, 6, 7]


def test_a_token_of_two_samples_has_two_terms() -> None:
    trie = build([spoken([1, 2, 3], 1, -0.1), spoken([1, 2, 3], 1, -0.2), spoken([1, 2], 1, -0.3)], least_shared=1)
    assert len(trie) == 3
    assert len(trie.start) == 1
    assert sorted(zip(trie.terms.token.tolist(), trie.terms.sample.tolist(), strict=True)) == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1),
    ]  # fmt: skip


def test_the_first_token_is_never_a_term_and_observed_ones_are_when_asked_for() -> None:
    one = Sequence(episode=0, ids=[4, 5, 6], mask=[1, 0, 1], logprobs=[-1.0, 0.0, -2.0])
    assert build([one]).terms.position.tolist() == [2]
    every = build([one], observed=True).terms
    assert every.position.tolist() == [1, 2]
    assert every.spoken.tolist() == [False, True]


def test_short_prefixes_are_not_shared() -> None:
    pair = [spoken([*range(15), 90], 3), spoken([*range(15), 91], 3)]
    assert len(build(pair)) == 32
    longer = [spoken([*range(16), 90], 3), spoken([*range(16), 91], 3)]
    assert len(build(longer)) == 18
    assert len(build(longer, least_shared=NOTHING_SHARED)) == 34


def test_samples_are_named() -> None:
    assert set(build([spoken([1, 2], 0), spoken([3, 4], 0)], samples=[7, 5]).terms.sample.tolist()) == {5, 7}


def test_arrays_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidInput, match="sequence 3"):
        build([Sequence(episode=0, ids=[1, 2], mask=[1], logprobs=[0.0, 0.0])], samples=[3])


@pytest.mark.parametrize(
    ("first", "second", "shared"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 9, 3], [1, 2, 3], 1)]
)
def test_common_prefixes(first: list[int], second: list[int], shared: int) -> None:
    assert common_prefix(first, second) == shared


@given(st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=8), st.integers(1, 4))
def test_every_path_is_its_sequence_and_slices_are_subtrees(rows: list[list[int]], least: int) -> None:
    trie = build([spoken(ids, 0) for ids in rows], least_shared=least)
    terms = trie.terms
    found = set()
    for token, sample, position in zip(terms.token, terms.sample, terms.position, strict=True):
        assert way(trie, int(token)) == rows[sample][: position + 1]
        assert trie.depth[token] == position
        found.add((sample, position))
    assert found == {(sample, at) for sample, ids in enumerate(rows) for at in range(1, len(ids))}
    limit = trie.segment_last
    for query in range(len(trie)):
        above, token = set(), query
        while token >= 0:
            above.add(token)
            token = int(trie.parent[token])
        assert above == {key for key in range(query + 1) if query < limit[key]}
    prefixes = {tuple(ids[: at + 1]) for ids in rows for at in range(len(ids))}
    if least == 1:
        assert len(trie) == len(prefixes)
    assert [*trie.start.tolist(), len(trie)] == [0, *trie.end.tolist()]
