"""Settings that objectives share: KL, curated data, truncation, filtering, and the rollout's mismatch.

A part that is None is not used. A part that is there always has an effect: values without one are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rl.errors import InvalidInput
from rl.training import Config

Baseline = Literal["group_normalised", "centred", "leave_one_out", "batch_normalised"]
Estimator = Literal["k1", "k2", "k3"]
MismatchMode = Literal["tis", "icepop", "sequence_mask"]


def refusal(field: str, value: object, remedy: str) -> ValueError:
    """What a validator raises: pydantic only collects ValueError, so this carries the message of an InvalidInput."""
    return ValueError(str(InvalidInput(field, value, remedy)))


class Kl(Config):
    """A pull towards the reference policy, ``coefficient`` times the estimated KL per token.

    In the loss it is averaged over the batch's tokens; in the reward it is taken off token by token before returns
    are summed. With ``target`` and ``horizon`` (episodes) the coefficient adapts after each batch (``rl/kl.py``).
    """

    estimator: Estimator = "k3"
    place: Literal["loss", "reward"] = "loss"
    coefficient: float = Field(0.1, gt=0)
    target: float | None = Field(None, gt=0)
    horizon: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _adapts_wholly_or_not(self) -> Self:
        if self.target is not None and self.horizon is None:
            raise refusal("kl.target", self.target, "has no effect without kl.horizon; give both, or neither")
        if self.horizon is not None and self.target is None:
            raise refusal("kl.horizon", self.horizon, "has no effect without kl.target; give both, or neither")
        return self


class Ptx(Config):
    """Maximum likelihood on curated trajectories beside the objective, times ``coefficient`` (InstructGPT's PTX).

    ``source`` is a URL such as ``jsonl:///srv/curated.jsonl``; every step takes ``batch_episodes`` from it.
    """

    coefficient: float = Field(gt=0)
    source: str = Field(min_length=1)
    batch_episodes: int = Field(8, ge=1)


class SoftOverlong(Config):
    """DAPO's soft punishment: up to ``factor`` off, linear in the last ``buffer`` of ``max_tokens`` tokens."""

    rule: Literal["soft"] = "soft"
    max_tokens: int = Field(ge=1)
    buffer: int = Field(ge=1)
    factor: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.buffer > self.max_tokens:
            raise refusal("overlong.buffer", self.buffer, f"set at most max_tokens = {self.max_tokens}")
        return self


class StopProperly(Config):
    """ProRL's rule: a truncated episode's reward times ``coefficient`` in 0..1, or ``coefficient`` itself below 0."""

    rule: Literal["stop_properly"] = "stop_properly"
    coefficient: float = Field(0.0, le=1)

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.coefficient == 1:
            raise refusal("overlong.coefficient", 1, "has no effect; leave overlong out, or set less than 1")
        return self


Overlong = Annotated[SoftOverlong | StopProperly, Field(discriminator="rule")]


class GroupFilter(Config):
    """Keep groups whose mean score lies strictly between ``low`` and ``high`` (DAPO's dynamic sampling)."""

    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.low >= self.high:
            raise refusal("filter.low", self.low, f"keeps no group; set less than filter.high = {self.high}")
        return self


class Mismatch(Config):
    """What to do where engine and trainer disagree on old log-probabilities, by exp(trainer's - engine's).

    ``tis`` multiplies the loss by the ratio clamped to [low, high]; ``icepop`` by the ratio inside and 0 outside;
    ``sequence_mask`` drops samples whose geometric mean ratio lies outside. Costs a forward pass a batch.
    """

    mode: MismatchMode = "tis"
    low: float = Field(0.0, ge=0)
    high: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.low >= self.high:
            raise refusal("mismatch.low", self.low, f"set less than mismatch.high = {self.high}")
        return self
