"""What the trajectories of a frozen group teach under an objective: an advantage or a weight each, or why nothing.

The numbers are those that the trainer makes of the same rows, for whoever looks at a dataset without a model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple

from rl.advantages import advantages, centred, pooled
from rl.config import OnPolicyTrain, TrainConfig
from rl.filtering import informative
from rl.objective_parts import Baseline
from rl.objectives import Cloning, Dpo, Grouped, Ppo, ReinforceBaseline, Sft, WeightedSft
from rl.offline import exponential_weights, preferences
from rl.overlong import shaped


class Learner(NamedTuple):
    """A trajectory of a dataset. ``spoken`` counts its answers' tokens, ``length`` those from the first of them on.

    ``is_cut``: a call of it ended because there was no room left.
    """

    trajectory_id: str
    group: str
    score: float
    spoken: int = 0
    length: int = 0
    is_cut: bool = False


@dataclass(frozen=True)
class Lesson:
    """What one trajectory teaches. ``is_trained`` false: nothing, because of ``words``.

    ``advantage`` is None for objectives that have none a trajectory, ``weight`` is what a cloned answer's likelihood
    is multiplied by, and ``reward`` the score under the overlong rule.
    """

    is_trained: bool
    reward: float
    advantage: float | None = None
    weight: float | None = None
    words: str = ""


def needs_all(config: TrainConfig) -> bool:
    """Whether an advantage depends on the whole dataset, and not on the trajectory's group alone."""
    return isinstance(config, Grouped) and (_baseline(config) == "batch_normalised" or config.lone == "pooled")


def needs_tokens(config: TrainConfig) -> bool:
    """Whether an advantage depends on how much was said, and not on scores alone."""
    if not isinstance(config, Grouped | Ppo):
        return False
    return config.overlong is not None or (isinstance(config, Grouped) and _baseline(config) == "batch_normalised")


def lessons(config: TrainConfig, learners: Sequence[Learner]) -> list[Lesson]:
    """What each of ``learners`` teaches: all rows that the trainer could use of some groups, or of the dataset.

    Raises:
        InvalidInput: a score is not a finite number.
    """
    scores, groups = [one.score for one in learners], [one.group for one in learners]
    if isinstance(config, Sft):
        return [_cloned(score, 1.0, least=config.min_score) for score in scores]
    if isinstance(config, WeightedSft):
        weights = exponential_weights(scores, groups, config.weight_temperature, config.weight_cap)
        gains = centred(scores, groups)
        return [_cloned(*of_one) for of_one in zip(scores, weights.tolist(), gains.tolist(), strict=True)]
    if isinstance(config, Dpo):
        return _preferred(config, scores, groups)
    return _reinforced(config, learners, scores, groups)


def in_order(config: Cloning | Dpo, learners: Sequence[Learner]) -> list[str]:
    """The trajectories that are chosen to be cloned or compared, in the order of the trainer's episodes.

    ``learners`` are all rows of the dataset that the trainer could use, in the order that they are trained in.

    Raises:
        InvalidInput: a score is not a finite number.
    """
    if isinstance(config, Dpo):
        pairs = preferences([one.score for one in learners], [one.group for one in learners], config.min_margin)
        return [learners[place].trajectory_id for pair in pairs for place in pair]
    least = config.min_score if isinstance(config, Sft) else None
    return [one.trajectory_id for one in learners if least is None or one.score >= least]


def _cloned(score: float, weight: float, gain: float | None = None, *, least: float | None = None) -> Lesson:
    if least is not None and score < least:
        return Lesson(False, score, words="score below min_score")
    return Lesson(True, score, gain, weight)


def _preferred(config: Dpo, scores: list[float], groups: list[str]) -> list[Lesson]:
    found = [Lesson(False, score, words="neither best nor worst of a group that differs") for score in scores]
    for better, worse in preferences(scores, groups, config.min_margin):
        found[better] = Lesson(True, scores[better], words="preferred to the worst of its group")
        found[worse] = Lesson(True, scores[worse], words="the best of its group is preferred to it")
    return found


def _reinforced(
    config: OnPolicyTrain, learners: Sequence[Learner], scores: list[float], names: list[str]
) -> list[Lesson]:
    rewards = shaped(scores, [one.length for one in learners], [one.is_cut for one in learners], config.overlong)
    if isinstance(config, Ppo):
        words = "one advantage a token, of the value head; they are not stored"
        return [Lesson(True, reward, words=words) for reward in rewards.tolist()]
    groups = pooled(names) if config.lone == "pooled" else list[Hashable](names)
    rule = config.filter
    kept = [True] * len(names) if rule is None else informative(scores, groups, rule.low, rule.high).tolist()
    spoken = [one.spoken for one in compress(learners, kept)]
    std = config.normalise_std if isinstance(config, ReinforceBaseline) else True
    rest = list(compress(groups, kept))
    gains = iter(advantages(_baseline(config), list(compress(rewards.tolist(), kept)), rest, spoken, std).tolist())
    return [
        _reinforced_one(reward, next(gains))
        if keep
        else Lesson(False, reward, words="mean score of its group outside filter")
        for reward, keep in zip(rewards.tolist(), kept, strict=True)
    ]


def _reinforced_one(reward: float, gain: float) -> Lesson:
    if gain == 0.0:
        return Lesson(False, reward, 0.0, words="no advantage in its group")
    return Lesson(True, reward, gain)


def _baseline(config: Grouped) -> Baseline:
    """Where KL is taken off the reward, whitening comes after that, token by token."""
    in_reward = config.kl is not None and config.kl.place == "reward"
    return "centred" if in_reward and config.baseline == "batch_normalised" else config.baseline
