"""What to do, typed: training, evaluation and runs. Unknown keys are errors.

Environment variables say where things are and live with the package that needs them; these models are
stored whole on the job row, so that a job can be read and repeated from the row alone.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Lora(Config):
    """A low-rank adapter on every linear layer of the body."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)


class Optimizer(Config):
    """AdamW. The rate warms up linearly, then stays or falls along a cosine to ``final_share``."""

    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    final_share: float = Field(0.1, ge=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = Field(1.0, gt=0)


class Train(Config):
    """What every objective needs. ``token_budget`` bounds the padded tokens of one micro-batch.

    ``devices`` are taken all in one lease, or none. ``quantization`` keeps the frozen base in four bits; it needs
    ``lora``.
    """

    optimizer: Optimizer
    lora: Lora | None = None
    token_budget: int = Field(3072, ge=1)
    # Left out of the dump while they say nothing: equal work must keep its key while older planners still run.
    devices: int = Field(1, ge=1, exclude_if=lambda devices: devices == 1)
    quantization: Literal["4bit"] | None = Field(None, exclude_if=lambda quantization: quantization is None)
    seed: int = 0


class SftTrain(Train):
    """Clone the assistant's turns: maximum likelihood of every spoken token.

    ``observation_weight`` times the mean over the other tokens is added, because a small model trained
    from nothing learns what to copy by predicting what it reads. ``min_score`` keeps trajectories scored
    at least that; None keeps all.
    """

    objective: Literal["sft"] = "sft"
    steps: int = Field(ge=1)
    batch_episodes: int = Field(32, ge=1)
    observation_weight: float = Field(0.0, ge=0)
    min_score: float | None = None


class GrpoTrain(Train):
    """Group-relative policy optimisation on our own versions' trajectories.

    Advantages are normalised in the group of one scenario, the ratio is per token, and the loss is the
    mean over episodes of the mean over an episode's tokens.
    """

    objective: Literal["grpo"] = "grpo"
    epochs: int = Field(1, ge=1)
    mini_batches: int = Field(2, ge=1)
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.28, gt=0)
    temperature: float = Field(1.0, gt=0)


TrainConfig = Annotated[SftTrain | GrpoTrain, Field(discriminator="objective")]


class TaskSet(Config):
    """Scenarios to evaluate on: ``count`` seeds of a split from ``first_seed`` on, each played once, greedily."""

    environment: str
    split: Literal["validation", "held_out"]
    first_seed: int = Field(0, ge=0)
    count: int = Field(ge=1)


class Rollout(Config):
    """How one round of a run is played: ``episodes`` episodes on each of ``scenarios`` scenarios."""

    environment: str
    scenarios: int = Field(ge=1)
    episodes: int = Field(ge=2)
    first_seed: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0)
    max_tokens: int = Field(6, ge=1)
    concurrency: int = Field(64, ge=1)


class Release(Config):
    """When a version is released over the stable one: P(better) on held-out scenarios, and the share it gets."""

    min_probability: float = Field(0.95, gt=0.5, lt=1)
    min_scenarios: int = Field(200, ge=1)
    share: int = Field(100, ge=0, le=100)


class RunConfig(Config):
    """A chain of windows on one environment, each played by the version that the one before trained."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    rounds: int = Field(ge=1)
    rollout: Rollout
    train: GrpoTrain
    validation: TaskSet
    held_out: TaskSet
    release: Release = Release()


class LineConfig(Config):
    """One lineage of versions: the base model it grows from, where its logs are, and how they are trained on.

    ``version_prefix`` names the versions, as in ``babylon-agent-v1.0.3``; None is ``babylon-agent`` for the line
    ``main`` and the line's own name for any other. ``source`` is a URL such as ``jsonl:///srv/logs/agent.jsonl``;
    None for a line that only plays runs. With ``automatic``, every hour of the source is a window of its own accord
    and is trained on once a day; without it, only windows that somebody asks for exist.
    """

    base_model: str
    version_prefix: str | None = None
    source: str | None = None
    automatic: bool = True
    train: TrainConfig | None = None
    validation: TaskSet | None = None
    release: Release = Release()


def digest(*parts: object) -> str:
    """SHA-256, in hex, of the canonical JSON of ``parts``; models are dumped first."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
