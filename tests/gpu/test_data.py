"""Micro-batches: padding, budget, and which token belongs to whom."""

import torch

from gpu.data import Episode, micro_batches
from rl.records import Sequence


def episode(*lengths: int) -> Episode:
    sequences = [
        Sequence(episode=0, ids=list(range(1, n + 1)), mask=[0] * (n - 1) + [1], logprobs=[0.0] * (n - 1) + [-float(n)])
        for n in lengths
    ]
    return Episode(sequences)


def test_sequences_of_like_length_share_a_batch_under_the_budget() -> None:
    batches = list(micro_batches([episode(9, 2), episode(3), episode(10)], token_budget=20))
    assert [batch.lengths.tolist() for batch in batches] == [[2, 3], [9, 10]]
    assert [batch.episode.tolist() for batch in batches] == [[0, 1], [0, 2]]
    assert batches[0].ids.tolist() == [[1, 2, 0], [1, 2, 3]]
    assert batches[0].spoken.tolist() == [[False, True, False], [False, False, True]]
    torch.testing.assert_close(batches[0].old_logp, torch.tensor([[0.0, -2.0, 0.0], [0.0, 0.0, -3.0]]))


def test_a_sequence_over_the_budget_stands_alone() -> None:
    assert [b.lengths.tolist() for b in micro_batches([episode(50), episode(4)], token_budget=8)] == [[4], [50]]


def test_an_episode_counts_what_it_spoke() -> None:
    assert (episode(4, 6).spoken, episode(4, 6).length) == (2, 10)
