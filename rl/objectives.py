"""Every objective's settings: one frozen model each, told apart by ``objective``.

A setting that another objective reads and this one would not is an error that says so. ``rl/effective.py`` names
what a config comes to, and the published traps it walks into.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from rl.errors import InvalidInput
from rl.objective_parts import Baseline, GroupFilter, Kl, Mismatch, Overlong, Ptx, refusal
from rl.training import Train

Ratio = Literal["none", "token", "sequence mean", "sequence"]
Aggregation = Literal["tokens", "samples, then tokens", "samples", "samples times max_tokens", "pairs"]


def _unset(value: object) -> bool:
    return value is None


def _zero(value: object) -> bool:
    return value == "zero"


class Objective(Train):
    """Names what the class does with data, for the manifest, and refuses settings it would not read."""

    baseline: ClassVar[Baseline | Literal["none", "gae"]] = "none"
    ratio: ClassVar[Ratio] = "none"
    aggregation: ClassVar[Aggregation] = "tokens"

    @model_validator(mode="before")
    @classmethod
    def _reads_every_setting(cls, values: Any) -> Any:
        for name in values if isinstance(values, dict) else ():
            if name not in cls.model_fields:
                remedy = _remedy(str(name), cls)
                raise refusal(str(name), values[name], remedy) from InvalidInput(str(name), values[name], remedy)
        return values


class Cloning(Objective):
    """Maximum likelihood of what was said, whoever spoke: ``steps`` updates on ``batch_episodes`` each."""

    objective: str
    steps: int = Field(ge=1)
    batch_episodes: int = Field(32, ge=1)


class Sft(Cloning):
    """Clone the assistant's turns: maximum likelihood of every spoken token.

    ``observation_weight`` times the mean over the other tokens is added, because a small model trained
    from nothing learns what to copy by predicting what it reads. ``min_score`` keeps trajectories scored
    at least that; None keeps all.
    """

    objective: Literal["sft"] = "sft"
    observation_weight: float = Field(0.0, ge=0)
    min_score: float | None = None


class WeightedSft(Cloning):
    """Clone every trajectory in proportion to exp(advantage / ``weight_temperature``), at most ``weight_cap``.

    The advantage is the score minus its group's mean. For foreign or stale logs: no log-probabilities are needed
    (advantage-weighted regression, arXiv 1910.00177).
    """

    baseline: ClassVar[Baseline] = "centred"
    objective: Literal["weighted_sft"] = "weighted_sft"
    weight_temperature: float = Field(1.0, gt=0)
    weight_cap: float = Field(20.0, gt=1)


class Dpo(Objective):
    """Prefer the best trajectory of a scenario to the worst, against the reference (arXiv 2305.18290).

    For foreign or stale logs. Pairs whose scores differ by less than ``min_margin`` are left out.
    """

    aggregation: ClassVar[Aggregation] = "pairs"
    objective: Literal["dpo"] = "dpo"
    steps: int = Field(ge=1)
    batch_pairs: int = Field(16, ge=1)
    beta: float = Field(0.1, gt=0)
    min_margin: float = Field(1e-6, gt=0)


class OnPolicy(Objective):
    """Learn from our own versions' trajectories, each batch in ``epochs`` passes of ``mini_batches`` updates.

    The loss clips ratios to [1 - ``clip_low``, 1 + ``clip_high``]. ``max_staleness`` is how many versions older than
    the one trained the version that spoke may be; None takes any whose log-probabilities are stored.
    """

    ratio: ClassVar[Ratio] = "token"
    objective: str
    epochs: int = Field(1, ge=1)
    mini_batches: int = Field(2, ge=1)
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.28, gt=0)
    temperature: float = Field(1.0, gt=0)
    # Left out of the dump while they say nothing, so that plain GRPO keeps its key.
    kl: Kl | None = Field(None, exclude_if=_unset)
    ptx: Ptx | None = Field(None, exclude_if=_unset)
    overlong: Overlong | None = Field(None, exclude_if=_unset)
    mismatch: Mismatch | None = Field(None, exclude_if=_unset)
    max_staleness: int | None = Field(None, ge=0, exclude_if=_unset)


class DualClipped(OnPolicy):
    """A clipped surrogate that can be bounded from below too: at most ``dual_clip`` times a negative advantage.

    Dual-clip PPO (arXiv 1912.09729, equation 5).
    """

    dual_clip: float | None = Field(None, gt=1, exclude_if=_unset)


class Grouped(OnPolicy):
    """Advantages within the group of one scenario.

    A lone trajectory has no group: ``lone`` gives it no advantage, or pools all lone ones of the batch into a group.
    """

    baseline: ClassVar[Baseline] = "group_normalised"
    filter: GroupFilter | None = Field(None, exclude_if=_unset)
    lone: Literal["zero", "pooled"] = Field("zero", exclude_if=_zero)


class Grpo(Grouped, DualClipped):
    """Group-relative policy optimisation (arXiv 2402.03300)."""

    aggregation: ClassVar[Aggregation] = "samples, then tokens"
    objective: Literal["grpo"] = "grpo"


class SequenceRatio(Grouped, DualClipped):
    """One ratio and one advantage a sample: what is per token elsewhere has nothing to act on."""

    @model_validator(mode="after")
    def _acts_on_samples(self) -> Self:
        if self.kl and self.kl.place == "reward":
            remedy = f"{type(self).__name__.lower()} has one advantage a sample and no reward a token; set place = loss"
            raise refusal("kl.place", "reward", remedy)
        if self.mismatch and self.mismatch.mode != "sequence_mask":
            remedy = "a weight a token has nothing to weigh in a ratio a sample; set mode = sequence_mask"
            raise refusal("mismatch.mode", self.mismatch.mode, remedy)
        return self


class Gspo(SequenceRatio):
    """Group sequence policy optimisation (arXiv 2507.18071), with the paper's clip widths."""

    ratio: ClassVar[Ratio] = "sequence mean"
    aggregation: ClassVar[Aggregation] = "samples"
    objective: Literal["gspo"] = "gspo"
    clip_low: float = Field(3e-4, gt=0, lt=1)
    clip_high: float = Field(4e-4, gt=0)


class Rloo(SequenceRatio):
    """REINFORCE with leave-one-out baselines; a whole sample is one action (arXiv 2402.14740)."""

    baseline: ClassVar[Baseline] = "leave_one_out"
    ratio: ClassVar[Ratio] = "sequence"
    aggregation: ClassVar[Aggregation] = "samples"
    objective: Literal["rloo"] = "rloo"


class Ppo(DualClipped):
    """Proximal policy optimisation with a value head and generalised advantages (arXiv 1707.06347, 1506.02438).

    Needs no groups. ``value_clip`` bounds how far a value may move from the one the advantages were made with.
    """

    baseline: ClassVar[Literal["gae"]] = "gae"
    objective: Literal["ppo"] = "ppo"
    gamma: float = Field(1.0, gt=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)
    value_clip: float | None = Field(0.5, gt=0)
    value_coefficient: float = Field(1.0, gt=0)
    value_learning_rate: float = Field(1e-3, gt=0)


class ReinforceBaseline(Grouped, DualClipped):
    """REINFORCE++ with the group's mean as baseline, normalised over the batch's tokens (arXiv 2501.03262)."""

    baseline: ClassVar[Baseline] = "batch_normalised"
    objective: Literal["reinforce_baseline"] = "reinforce_baseline"
    normalise_std: bool = True


class Cispo(Grouped):
    """Clip the weight, keep every token's gradient (MiniMax-M1, arXiv 2506.13585). By default ratios up to 5."""

    objective: Literal["cispo"] = "cispo"
    clip_low: float = Field(1.0, gt=0, le=1)
    clip_high: float = Field(4.0, gt=0)


class Dapo(Grouped, DualClipped):
    """Token mean, a wider upper clip, and only groups that differ (arXiv 2503.14476)."""

    objective: Literal["dapo"] = "dapo"
    filter: GroupFilter | None = GroupFilter()


class DrGrpo(Grouped, DualClipped):
    """GRPO without its two divisions: by the group's deviation, and by a sample's length (arXiv 2503.20783).

    The sum over tokens is divided by samples times ``max_tokens``, a constant.
    """

    baseline: ClassVar[Baseline] = "centred"
    aggregation: ClassVar[Aggregation] = "samples times max_tokens"
    objective: Literal["dr_grpo"] = "dr_grpo"
    max_tokens: int = Field(ge=1)


ObjectiveConfig = Annotated[
    Sft | WeightedSft | Grpo | Gspo | Ppo | ReinforceBaseline | Cispo | Dapo | DrGrpo | Rloo | Dpo,
    Field(discriminator="objective"),
]
OBJECTIVES: tuple[type[Objective], ...] = get_args(get_args(ObjectiveConfig)[0])


def is_on_policy(objective: str) -> bool:
    """Whether an objective learns from our own versions' trajectories alone."""
    return any(one.model_fields["objective"].default == objective for one in OBJECTIVES if issubclass(one, OnPolicy))


def _remedy(name: str, cls: type[Objective]) -> str:
    """Why ``cls`` refuses a setting called ``name``, and what to do."""
    chosen = cls.model_fields["objective"].default
    readers = [one.model_fields["objective"].default for one in OBJECTIVES if name in one.model_fields]
    if readers:
        return f"has no effect for {chosen}; leave it out, or choose an objective that reads it: {', '.join(readers)}"
    near = difflib.get_close_matches(name, cls.model_fields, n=1)
    return f"no objective knows it; did you mean {near[0]}?" if near else "no objective knows it; leave it out"
