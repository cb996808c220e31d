"""How a window's trajectories are scored: by their reward, a published heuristic, a mix, or a judge."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rl.objective_parts import refusal
from rl.rubrics import NAMES
from rl.training import Config

Method = Literal["reward", "heuristic", "composite", "judge", "ruler"]
Variant = Literal["agent", "service", "archetype"]
Term = Literal["reward", "agent", "service", "archetype", "feedback", "outcome"]
Lone = Literal["skip", "batch_baseline", "score_alone"]

ONE_WORD = re.compile(r"[\w.-]*")


class Judge(Config):
    """A language model that compares the trajectories of a scenario. Where it answers is said by the environment.

    Groups have ``group_min`` to ``group_max`` trajectories. ``rubric`` is a name of ``rl.rubrics`` or a text; with
    ``archetype``, a group of one archetype gets that archetype's. The newest ``last_messages`` of each trajectory are
    shown, ``max_characters`` of them at most. ``attempts`` bounds the requests for one answer, ``answers`` how often a
    malformed answer is asked for again. ``requests_per_minute`` is that of one process. ``daily_budget`` is money
    a UTC day for this model, in the unit of the prices, which are for a million tokens. ``limit_name`` is the
    name under which the server takes ``max_tokens``; a ``temperature`` of None is not sent.
    """

    model: str = Field(min_length=1)
    rubric: str = "default"
    group_min: int = Field(2, ge=2, le=8)
    group_max: int = Field(8, ge=2, le=8)
    seed: int = 0
    temperature: float | None = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(4096, ge=1)
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout_seconds: float = Field(120.0, gt=0)
    attempts: int = Field(4, ge=1, le=20)
    answers: int = Field(3, ge=1, le=10)
    concurrency: int = Field(4, ge=1, le=64)
    requests_per_minute: float | None = Field(None, gt=0)
    daily_budget: float | None = Field(None, ge=0)
    prompt_price: float = Field(0.0, ge=0)
    completion_price: float = Field(0.0, ge=0)
    last_messages: int = Field(20, ge=1)
    max_characters: int = Field(20_000, ge=100)
    judge_sees_outcomes: bool = False

    @field_validator("rubric")
    @classmethod
    def _is_a_name_or_a_text(cls, rubric: str) -> str:
        if ONE_WORD.fullmatch(rubric.strip()) and rubric not in NAMES:
            raise refusal("judge.rubric", rubric, f"write a text, or name one of {', '.join(NAMES)}")
        return rubric

    @model_validator(mode="after")
    def _groups_can_be_balanced(self) -> Self:
        if self.group_max < 2 * self.group_min - 1:
            remedy = f"set at least 2 * group_min - 1 = {2 * self.group_min - 1}, or some groups would be too small"
            raise refusal("judge.group_max", self.group_max, remedy)
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> Self:
        if self.daily_budget is not None and not self.prompt_price + self.completion_price:
            remedy = "has no effect without prompt_price and completion_price; give what a million tokens cost"
            raise refusal("judge.daily_budget", self.daily_budget, remedy)
        return self

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost, in the unit of the prices."""
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6


class Scoring(Config):
    """``reward`` is the environment's or the log's own; ``heuristic`` needs a ``variant``, ``composite`` ``weights``.

    ``judge`` and ``ruler`` (ART's ``ruler_score_group``) need a ``judge``, and compare the trajectories of a
    scenario. ``fallback`` gives a whole group that the judge could not score the heuristic's scores instead.
    ``lone`` is the rule for a trajectory that is alone in its scenario: ``skip`` gives it no score; the others keep its
    own score, which training then compares with the batch (``batch_baseline``) or takes as it is (``score_alone``).
    None is ``score_alone``, and ``skip`` for a judge: what a judge says of one alone compares nothing.
    """

    method: Method = "reward"
    variant: Variant | None = None
    weights: dict[Term, Annotated[float, Field(ge=0)]] | None = None
    judge: Judge | None = None
    fallback: Literal["heuristic"] | None = None
    lone: Lone | None = None

    @property
    def is_judged(self) -> bool:
        """Whether scores come from comparing the trajectories of a scenario with each other."""
        return self.method in ("judge", "ruler")

    @property
    def lone_rule(self) -> Lone:
        """The rule for lone trajectories that holds."""
        return self.lone or ("skip" if self.is_judged else "score_alone")

    @model_validator(mode="after")
    def _has_its_parts(self) -> Self:
        with_variant = self.method == "heuristic" or self.fallback is not None
        self._part("variant", with_variant, "method = heuristic or a fallback; set agent, service or archetype")
        self._part("weights", self.method == "composite", "method = composite; give each term its weight")
        self._part("judge", self.is_judged, "method = judge or ruler; name at least the judge's model")
        if self.fallback is not None and not self.is_judged:
            raise refusal("scoring.fallback", self.fallback, "has an effect for method = judge or ruler alone")
        return self

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if self.weights is not None and not math.fsum(self.weights.values()) > 0:
            raise refusal("scoring.weights", self.weights, "weights must sum to more than 0")
        return self

    @model_validator(mode="after")
    def _lone_has_a_meaning(self) -> Self:
        if self.is_judged and self.fallback is None and self.lone_rule != "skip":
            remedy = "a judge only compares; set skip, or fallback = heuristic, which scores a lone one by itself"
            raise refusal("scoring.lone", self.lone, remedy)
        return self

    def _part(self, name: str, used: bool, remedy: str) -> None:
        value = getattr(self, name)
        if used and value is None:
            raise refusal(f"scoring.{name}", None, f"is needed with {remedy}")
        if not used and value is not None:
            raise refusal(f"scoring.{name}", value, f"has an effect only with {remedy}")
