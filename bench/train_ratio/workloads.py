"""Token sequences in the shapes that agents produce, drawn at random: what every trainer under comparison is given.

``share`` of each length is taken; 1 are the lengths that gates hold for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpu.bins import Shares, measure
from rl.records import Sequence as TokenSequence

NOISE = 0.3
"""Standard deviation of stored log-probabilities around those of a uniform policy, nats: both clips are reached."""


@dataclass(frozen=True)
class Workload:
    """One batch: ``episodes`` as our trainer merges them, ``rows`` as a padded one takes them.

    A row is a prompt with one completion at its end; ``prompts`` counts the prompt's tokens and ``owner`` says which
    episode it is of. Both hold the same spoken tokens, so a mean over tokens is the same loss.
    """

    name: str
    what: str
    episodes: list[TokenSequence]
    rows: list[TokenSequence]
    prompts: list[int]
    owner: list[int]
    advantages: list[float]

    @property
    def spoken(self) -> int:
        """How many tokens the policy spoke."""
        return sum(self.spoken_each)

    @property
    def spoken_each(self) -> list[int]:
        """How many each episode has of them."""
        return [sum(one.mask) for one in self.episodes]

    def reversed(self) -> Workload:
        """The same batch with its rows in the opposite order; episodes keep their numbers."""
        rows, prompts, owner = self.rows[::-1], self.prompts[::-1], self.owner[::-1]
        return replace(self, rows=rows, prompts=prompts, owner=owner)

    @property
    def shares(self) -> Shares:
        """Tokens as one trie of episodes, and as one padded batch of rows."""
        ours, padded = measure([self.episodes]), measure([self.rows])
        return Shares(ours.unique, padded.sequence, padded.padded)


def uniform(seed: int, vocabulary: int, share: float) -> Workload:
    """One prompt, eight completions of equal length."""
    return _group("uniform", seed, vocabulary, _cut(512, share), [_cut(128, share)] * 8)


def ragged(seed: int, vocabulary: int, share: float) -> Workload:
    """One prompt, eight completions from short to long."""
    lengths = (24, 40, 64, 96, 120, 150, 200, 330)
    return _group("ragged", seed, vocabulary, _cut(512, share), [_cut(one, share) for one in lengths])


def no_sharing(seed: int, vocabulary: int, share: float) -> Workload:
    """Eight prompts that have nothing in common, one completion each, all of equal length."""
    return apart(seed, vocabulary, _cut(512, share), [_cut(128, share)] * 8)


def apart(seed: int, vocabulary: int, prompt: int, lengths: Sequence[int]) -> Workload:
    """A prompt of its own before each completion of one of ``lengths``."""
    return _group("no_sharing", seed, vocabulary, prompt, lengths, shared=False)


def conversation(seed: int, vocabulary: int, share: float) -> Workload:
    """A system prompt and six turns of question and answer; a padded trainer takes each answer as a sample."""
    random = np.random.default_rng(seed)
    system, asked, answered, turns = _cut(256, share), _cut(64, share), _cut(64, share), 6
    ids = _ids(random, vocabulary, system + turns * (asked + answered))
    ends = [system + (turn + 1) * (asked + answered) for turn in range(turns)]
    logprobs = _logprobs(random, vocabulary, len(ids))
    prompts = [end - answered for end in ends]
    rows = [_sequence(0, ids[:end], logprobs, [(end - answered, end)]) for end in ends]
    whole = _sequence(0, ids, logprobs, list(zip(prompts, ends, strict=True)))
    what = f"system {system}, {turns} turns of {asked} + {answered}"
    return Workload("conversation", what, [whole], rows, prompts, [0] * turns, [1.0])


def _cut(tokens: int, share: float) -> int:
    return max(int(tokens * share), 2)


Make = Callable[[int, int, float], Workload]
WORKLOADS: dict[str, Make] = {
    "uniform": uniform,
    "ragged": ragged,
    "conversation": conversation,
    "no_sharing": no_sharing,
}


def _group(name: str, seed: int, vocabulary: int, prompt: int, lengths: Sequence[int], shared: bool = True) -> Workload:
    random = np.random.default_rng(seed)
    common = _ids(random, vocabulary, prompt)
    rows = []
    for index, length in enumerate(lengths):
        before = common if shared else _ids(random, vocabulary, prompt)
        ids = before + _ids(random, vocabulary, length)
        rows.append(_sequence(index, ids, _logprobs(random, vocabulary, len(ids)), [(prompt, len(ids))]))
    sizes = str(lengths[0]) if len(set(lengths)) == 1 else f"{min(lengths)}..{max(lengths)}"
    what = f"G{len(lengths)} P{prompt} R{sizes}" + ("" if shared else ", prompts differ")
    owner = list(range(len(rows)))
    return Workload(name, what, rows, rows, [prompt] * len(rows), owner, random.normal(size=len(rows)).tolist())


def _ids(random: np.random.Generator, vocabulary: int, count: int) -> list[int]:
    found: list[int] = random.integers(5, vocabulary, count).tolist()
    return found


def _logprobs(random: np.random.Generator, vocabulary: int, count: int) -> list[float]:
    found: list[float] = (random.normal(0, NOISE, count) - np.log(vocabulary)).tolist()
    return found


def _sequence(episode: int, ids: list[int], logprobs: list[float], spans: list[tuple[int, int]]) -> TokenSequence:
    mask = [int(any(first <= at < end for first, end in spans)) for at in range(len(ids))]
    return TokenSequence(
        episode=episode, ids=ids, mask=mask, logprobs=[one * m for one, m in zip(logprobs, mask, strict=False)]
    )
