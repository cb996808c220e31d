"""What to do, typed: training, evaluation and runs. Unknown keys are errors.

Environment variables say where things are and live with the package that needs them; these models are
stored whole on the job row, so that a job can be read and repeated from the row alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rl.errors import InvalidInput
from rl.gate import Gate
from rl.held_out import HeldOut, LoggedSet
from rl.late import Late
from rl.objective_parts import Kl, Overlong, refusal
from rl.objectives import (
    OBJECTIVES,
    Cispo,
    Dapo,
    Dpo,
    DrGrpo,
    Gspo,
    Objective,
    Ppo,
    ReinforceBaseline,
    Rloo,
    WeightedSft,
)
from rl.objectives import Grpo as GrpoTrain
from rl.objectives import Sft as SftTrain
from rl.readiness import Thresholds
from rl.redaction import Redaction
from rl.retention import Retention
from rl.scoring_config import Scoring
from rl.sequential import Rules
from rl.stages import Stages
from rl.training import Config, Lora, Optimizer, Train

__all__ = [
    "Config",
    "EarlyStop",
    "GrpoTrain",
    "LineConfig",
    "Lora",
    "OnPolicyTrain",
    "Optimizer",
    "Release",
    "Rollout",
    "RoundTrain",
    "RunConfig",
    "SftTrain",
    "TaskSet",
    "Train",
    "TrainConfig",
    "digest",
    "place_of",
]


def _trained(config: Objective) -> Objective:
    """The reference of a KL is the base: the model without the adapter that is trained."""
    kl: Kl | None = getattr(config, "kl", None)
    if kl is not None and config.lora is None:
        remedy = "kl needs a base without its adapter as reference; set lora, or leave kl out"
        raise refusal("lora", None, remedy) from InvalidInput("lora", None, remedy)
    return config


def _grpo_unless_named(values: object) -> object:
    return {"objective": "grpo"} | values if isinstance(values, dict) else values


OnPolicyTrain = GrpoTrain | Gspo | Ppo | ReinforceBaseline | Cispo | Dapo | DrGrpo | Rloo

RoundTrain = Annotated[
    OnPolicyTrain,
    Field(discriminator="objective"),
    AfterValidator(_trained),
    BeforeValidator(_grpo_unless_named),
]
"""How a round of a run is trained on: it was played by the version that is trained. GRPO unless another is named."""

TrainConfig = Annotated[
    SftTrain | WeightedSft | OnPolicyTrain | Dpo,
    Field(discriminator="objective"),
    AfterValidator(_trained),
]
"""How the device's child trains."""


ALTERNATIVES: Mapping[str, Collection[str]] = {
    "train": [one.model_fields["objective"].default for one in OBJECTIVES],
    "overlong": [one.model_fields["rule"].default for one in get_args(get_args(Overlong)[0])],
}
"""What pydantic names behind these keys, where it says in which of several configs a key is wrong."""


class TaskSet(Config):
    """Scenarios to evaluate on: ``count`` seeds of a split from ``first_seed`` on, each played once, greedily.

    With several ``samples`` each is played so often, at ``temperature``.
    """

    environment: str
    split: Literal["validation", "held_out"]
    first_seed: int = Field(0, ge=0)
    count: int = Field(ge=1)
    samples: int = Field(1, ge=1, le=100, exclude_if=lambda samples: samples == 1)
    temperature: float = Field(0.0, ge=0, le=2, exclude_if=lambda temperature: temperature == 0)

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if (self.samples > 1) != (self.temperature > 0):
            remedy = "several samples need a temperature above 0, and one sample is greedy"
            raise refusal("temperature", self.temperature, remedy)
        return self


class Rollout(Config):
    """How one round of a run is played: ``episodes`` episodes on each of ``scenarios`` scenarios.

    ``max_tokens`` None is what the environment says. One job plays ``shard`` scenarios; None is all. An episode with a
    turn that takes more than ``stall_seconds`` is given up.
    """

    environment: str
    scenarios: int = Field(ge=1)
    episodes: int = Field(ge=2)
    first_seed: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    concurrency: int = Field(64, ge=1)
    # Left out of the dump while they say nothing, so that a round that older processes asked for is the same job.
    shard: int | None = Field(None, ge=1, exclude_if=lambda shard: shard is None)
    stall_seconds: float = Field(100.0, gt=0, exclude_if=lambda seconds: seconds == 100.0)


class Release(Gate):
    """When a version is released over the stable one, and how: ``Gate`` judges its held-out verdicts.

    ``share`` is the percentage of agents that the stable version has. A version that passes takes it over at once
    (``immediate``), or as a canary that grows by ``stages`` while ``rules`` test it on live traffic (``gradual``).
    With ``approval``, a person must agree first. The first version of a line has nothing to be compared with and is
    never a canary.
    """

    share: int = Field(100, ge=0, le=100)
    strategy: Literal["gradual", "immediate"] = Field("gradual", exclude_if=lambda strategy: strategy == "gradual")
    approval: bool = Field(False, exclude_if=lambda approval: not approval)
    rules: Rules = Field(Rules(), exclude_if=lambda rules: rules == Rules())
    stages: Stages = Field(Stages(), exclude_if=lambda stages: stages == Stages())


class EarlyStop(Config):
    """A run is over when ``patience`` versions in a row were not better than the best before them.

    It then waits for a person (``pause``), or ends as if all rounds were played (``finish``).
    """

    patience: int = Field(2, ge=1)
    then: Literal["pause", "finish"] = "pause"


class RunConfig(Config):
    """A chain of windows on one environment, each played by the version that the one before trained."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    rounds: int = Field(ge=1)
    rollout: Rollout
    train: RoundTrain
    validation: TaskSet
    held_out: TaskSet
    release: Release = Release()
    early_stop: EarlyStop | None = Field(None, exclude_if=lambda early_stop: early_stop is None)


PASSWORD = re.compile(r"^[^/?#]*//[^/?#@]*:[^/?#]*@")
"""What a URL with a password begins with."""
HIDDEN = "hidden_input"
"""The kind of a validation error whose input must not be shown."""


class LineConfig(Config):
    """One lineage of versions: the base model it grows from, where its logs are, and how they are trained on.

    ``version_prefix`` names the versions, as in ``babylon-agent-v1.0.3``; None is ``babylon-agent`` for the line
    ``main`` and the line's own name for any other. ``source`` is a URL such as ``jsonl:///srv/logs/agent.jsonl``;
    None for a line that only plays runs. With ``automatic``, every hour of the source is a window of its own accord
    and is trained on once a day; without it, only windows that somebody asks for exist. Hours are scored as ``scoring``
    says, rounds of a run by their reward. ``late`` says what becomes of rows that come after their hour was read,
    ``readiness`` what the daily training waits for, ``retention`` how long trajectories are kept, ``redaction`` what
    is taken out of texts before they are stored. Versions are evaluated on the ``validation`` scenarios of an
    environment, or on scenarios of the logs that are ``held_out``; ``shard`` is how many scenarios one job evaluates,
    None is all.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    base_model: str
    version_prefix: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    source: str | None = None
    automatic: bool = True
    # Left out of the dump while they say nothing, so that older processes can read the row.
    scoring: Scoring = Field(Scoring(), exclude_if=lambda scoring: scoring == Scoring())
    late: Late = Field(Late(), exclude_if=lambda late: late == Late())
    readiness: Thresholds = Field(Thresholds(), exclude_if=lambda least: least == Thresholds())
    retention: Retention = Field(Retention(), exclude_if=lambda kept: kept == Retention())
    redaction: Redaction = Field(Redaction(), exclude_if=lambda taken_out: not taken_out.is_set)
    train: TrainConfig | None = None
    validation: TaskSet | None = None
    held_out: HeldOut | None = Field(None, exclude_if=lambda held_out: held_out is None)
    shard: int | None = Field(None, ge=1, exclude_if=lambda shard: shard is None)
    release: Release = Release()

    @model_validator(mode="after")
    def _is_evaluated_in_one_way(self) -> Self:
        if self.validation is not None and self.held_out is not None:
            raise refusal("held_out", "...", "the line has [validation] too; leave one of them out")
        return self

    @field_validator("source")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        if url is not None and (PASSWORD.search(url) or "password=" in url.lower()):
            remedy = "it is stored and shown: put the URL into an environment variable X, and write babylon://X"
            raise PydanticCustomError(HIDDEN, remedy)
        return url


def place_of(loc: Iterable[int | str]) -> str:
    """Where the value of a validation error stands in a file, which does not have the names of alternatives."""
    parts = ["", *map(str, loc)]
    kept = [part for before, part in pairwise(parts) if part not in ALTERNATIVES.get(before, ())]
    return ".".join(part for part in kept if not part.startswith("literal["))


def digest(*parts: object) -> str:
    """SHA-256, in hex, of the canonical JSON of ``parts``; models are dumped first, a ``LoggedSet`` as it is asked."""
    plain = [_plain(part) for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(part: object) -> object:
    if isinstance(part, LoggedSet):
        part = part.as_asked()
    return part.model_dump(mode="json") if isinstance(part, BaseModel) else part
