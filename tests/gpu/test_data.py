"""What an episode is made of."""

from gpu.data import Episode
from rl.records import Sequence


def episode(*lengths: int) -> Episode:
    sequences = [
        Sequence(episode=0, ids=list(range(1, n + 1)), mask=[0] * (n - 1) + [1], logprobs=[0.0] * (n - 1) + [-float(n)])
        for n in lengths
    ]
    return Episode(sequences)


def test_an_episode_counts_what_it_spoke() -> None:
    assert (episode(4, 6).spoken, episode(4, 6).length) == (2, 10)
