"""What every training is told, whatever its objective."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rl.errors import InvalidInput


class Config(BaseModel):
    """Immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Checkpointing = Literal["auto", "none", "all"] | Annotated[int, Field(strict=True, ge=1)]
"""How many decoder layers compute their activations again in the backward pass instead of keeping them."""


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

    @model_validator(mode="after")
    def _falls_where_it_says_how_far(self) -> Self:
        if self.schedule == "constant" and self.final_share != type(self).model_fields["final_share"].default:
            remedy = "has no effect while schedule = constant; set schedule = cosine, or leave it out"
            raise ValueError(str(InvalidInput("optimizer.final_share", self.final_share, remedy)))
        return self


class Train(Config):
    """What every objective needs. ``token_budget`` bounds the tokens that are computed at once; what
    sequences of one group begin with counts once.

    ``devices`` are taken all in one lease, or none. ``quantization`` keeps the frozen base in four bits; it needs
    ``lora``. ``checkpointing`` of ``auto`` takes as few layers as memory allows (``rl.memory_plan``), a number as many.
    A checkpoint is written every ``checkpoint_every`` optimizer steps and after the last one; None: only then.
    """

    optimizer: Optimizer
    lora: Lora | None = None
    token_budget: int = Field(3072, ge=1)
    # Left out of the dump while they say nothing: equal work must keep its key while older planners still run.
    devices: int = Field(1, ge=1, exclude_if=lambda devices: devices == 1)
    quantization: Literal["4bit"] | None = Field(None, exclude_if=lambda quantization: quantization is None)
    checkpointing: Checkpointing = Field("auto", exclude_if=lambda checkpointing: checkpointing == "auto")
    checkpoint_every: int | None = Field(None, ge=1, exclude_if=lambda every: every is None)
    seed: int = 0
