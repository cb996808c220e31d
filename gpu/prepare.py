"""What an objective needs to know of every token before the first update: one pass over all episodes.

Old log-probabilities of the trainer's own, those of the reference, values, and what follows from them: weights
for the engine's mismatch, and advantages and returns token by token. It is computed with the weights that the
training starts from, also when it goes on from a saved state, and so the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu.episodes import Bin, Episode, Floats, Known, in_turn_order
from gpu.ranks import ALONE, Ranks
from gpu.terms import Scored
from rl.advantages import whitened
from rl.config import TrainConfig
from rl.kl import estimated
from rl.mismatch import weights
from rl.objective_parts import Kl
from rl.objectives import Dpo, Objective, OnPolicy, Ppo, ReinforceBaseline
from rl.returns import discounted, gae, placed

Wide = NDArray[np.float64]
Pass = Callable[[Bin, bool], Scored]
"""Scores a bin without gradients, under the reference where the second argument says so."""


class Preparation:
    """Fills in ``Known`` for ``episodes``; nothing is computed that the objective does not ask for.

    ``kl_coefficient`` multiplies a KL that is taken off the reward. Each of ``ranks`` scores its bins, and all know of
    all of them in the end.
    """

    def __init__(
        self, config: TrainConfig, episodes: Sequence[Episode], kl_coefficient: float, ranks: Ranks = ALONE
    ) -> None:
        self.config, self.episodes, self.kl_coefficient, self.ranks = config, episodes, kl_coefficient, ranks
        self._ends = np.cumsum([one.spoken for one in episodes], dtype=np.int64)
        self._found: dict[str, Floats] = {}

    @property
    def passes(self) -> list[bool]:
        """The passes over all episodes that are needed: False for the policy's, True for the reference's."""
        config = self.config
        reference = isinstance(config, Dpo) or getattr(config, "kl", None) is not None
        policy = isinstance(config, Ppo) or getattr(config, "mismatch", None) is not None
        return [False] * policy + [True] * reference

    def run(self, score: Pass, bins: Sequence[Bin]) -> Iterator[float]:
        """Score all ``bins`` of the episodes, from the beginning; yields the share that is done after each."""
        self._found.clear()
        todo = [(one, reference) for reference in self.passes for one in self.ranks.mine(bins)]
        for done, (one, reference) in enumerate(todo, start=1):
            self._keep(one, score(one, reference), reference)
            yield done / len(todo)
        for values in self._found.values():
            self.ranks.add(torch.from_numpy(values))  # 0 but where this process scored

    def known(self) -> list[Episode]:
        """The episodes with all that was found and what follows from it."""
        episodes = [replace(one, known=self._scored(place, one)) for place, one in enumerate(self.episodes)]
        if isinstance(self.config, OnPolicy):
            episodes = _weighted(self.config, episodes)
            episodes = _credited(self.config, episodes, self.kl_coefficient)
        return episodes

    def reference_kl(self, episodes: Sequence[Episode]) -> float | None:
        """The mean KL from the reference over all spoken tokens, nats a token, as the rewards were charged with it."""
        kl = _in_reward(self.config)
        if kl is None or not episodes:
            return None
        charged: Wide = np.concatenate([_charge(kl, one) for one in episodes])
        return float(charged.mean()) if len(charged) else None

    def _keep(self, one: Bin, scored: Scored, reference: bool) -> None:
        found = {"reference": scored.logp} if reference else {"old_logp": scored.logp, "value": scored.value}
        for name, values in found.items():
            if values is not None:
                self._spread(name, one, values)

    def _spread(self, name: str, one: Bin, values: Tensor) -> None:
        found = self._found.setdefault(name, np.zeros(int(self._ends[-1]) if len(self._ends) else 0, np.float32))
        flat, sample = values.float().cpu().numpy(), one.trie.terms.sample
        if not len(sample):
            return
        starts = np.flatnonzero(np.diff(sample, prepend=-1))
        for first, part in zip(starts, np.split(flat, starts[1:]), strict=True):
            place, start, _ = one.spans[sample[first]]
            begin = self._ends[place] - self.episodes[place].spoken + start
            found[begin : begin + len(part)] = part

    def _scored(self, place: int, episode: Episode) -> Known:
        stop = self._ends[place]
        columns = {name: of[stop - episode.spoken : stop] for name, of in self._found.items()}
        if getattr(self.config, "mismatch", None) is None:
            columns.pop("old_logp", None)  # the engine's own are the ratio's denominator
        elif episode.staleness:
            # The starting policy did not speak here: what it makes of these tokens is no error of the engine.
            columns["old_logp"] = _spoken_by(episode).astype(np.float32)
        return Known(**columns)


def _weighted(config: OnPolicy, episodes: list[Episode]) -> list[Episode]:
    """With what each token's loss is multiplied by, where the engine and the trainer disagree."""
    rule = config.mismatch
    if rule is None or not episodes:
        return episodes
    old = np.concatenate([_old(one) for one in episodes])
    sample = np.repeat(np.arange(len(episodes)), [one.spoken for one in episodes])
    found = weights(old, np.concatenate([_spoken_by(one) for one in episodes]), sample, rule.mode, rule.low, rule.high)
    stale = np.array([one.staleness > 0 for one in episodes])
    return _with(episodes, "weight", np.where(stale[sample], 1.0, found))


def _credited(config: OnPolicy, episodes: list[Episode], coefficient: float) -> list[Episode]:
    """With advantages token by token, where they are not an episode's one number."""
    kl = _in_reward(config)
    if not episodes or (kl is None and not isinstance(config, Ppo)):
        return episodes
    advantages: list[Wide] = []
    returns: list[Wide] = []
    for one in episodes:
        advantage, back = _summed_back(config, one, None if kl is None else _charge(kl, one), coefficient)
        advantages.append(advantage)
        returns.append(back)
    flat = np.concatenate(advantages)
    if isinstance(config, Ppo | ReinforceBaseline):
        flat = whitened(flat, std=getattr(config, "normalise_std", True))
    return _with(_with(episodes, "advantage", flat), "returns", np.concatenate(returns))


def _summed_back(config: OnPolicy, one: Episode, kl: Wide | None, coefficient: float) -> tuple[Wide, Wide]:
    """Advantages and returns of one episode's tokens, [spoken] each, in sequence order."""
    order = in_turn_order(one)
    sample = np.zeros(len(order), np.int64)
    reward = one.reward if isinstance(config, Ppo) else one.advantage
    rewards = placed([reward], sample, None if kl is None else kl[order], coefficient)
    if isinstance(config, Ppo):
        assert one.known.value is not None  # noqa: S101
        found = gae(rewards, one.known.value[order], sample, config.gamma, config.gae_lambda)
    else:
        found = (discounted(rewards, sample),) * 2
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found[0][back], found[1][back]


def _in_reward(config: Objective) -> Kl | None:
    kl: Kl | None = getattr(config, "kl", None)
    return kl if kl is not None and kl.place == "reward" else None


def _charge(kl: Kl, one: Episode) -> Wide:
    assert one.known.reference is not None  # noqa: S101
    return estimated(_old(one), one.known.reference, kl.estimator)


def _old(one: Episode) -> Wide:
    """The denominators of the ratios, [spoken]: the trainer's own where they were computed, else the engine's."""
    known = one.known.old_logp
    return _spoken_by(one) if known is None else known.astype(np.float64)


def _spoken_by(one: Episode) -> Wide:
    """Log-probabilities as the engine stored them, [spoken]."""
    parts = [np.asarray(each.logprobs, np.float64)[np.asarray(each.mask, bool)] for each in one.sequences]
    return np.concatenate(parts)


def _with(episodes: list[Episode], column: str, values: Wide) -> list[Episode]:
    """The episodes with a column of ``Known`` cut from ``values``, which are of all their tokens."""
    parts = np.split(values.astype(np.float32), np.cumsum([one.spoken for one in episodes])[:-1])
    return [replace(one, known=replace(one.known, **{column: part})) for one, part in zip(episodes, parts, strict=True)]


def scoring(model: Any, score: Callable[[Bin], Scored]) -> Pass:
    """A pass over ``model``. Its reference is the base without its adapter, or, where there is none, the weights that
    the training starts from.
    """

    def one(each: Bin, reference: bool) -> Scored:
        off = model.disable_adapter() if reference and hasattr(model, "peft_config") else nullcontext()
        with torch.no_grad(), off:
            return score(each)

    return one
