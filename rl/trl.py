"""What TRL's trainers honour of a training's config, and the names that they give to it.

Each setting is honoured, or says nothing at the value that ``SILENT`` names, or is refused by name: one that the
objectives gain later is refused until it is listed here. ``docs/backends.md`` says what each becomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rl.objectives import Cispo, Objective, OnPolicy

LossType = Literal["grpo", "dapo", "dr_grpo", "cispo"]
Level = Literal["token", "sequence"]


@dataclass(frozen=True)
class Loss:
    """``loss_type`` and ``importance_sampling_level`` of a ``GRPOConfig``."""

    kind: LossType
    level: Level = "token"


LOSSES: dict[str, Loss] = {
    "grpo": Loss("grpo"),
    "gspo": Loss("grpo", "sequence"),
    "dapo": Loss("dapo"),
    "reinforce_baseline": Loss("dapo"),
    "dr_grpo": Loss("dr_grpo"),
    "cispo": Loss("cispo"),
}
"""On-policy objectives. Advantages are ours, so two objectives may share a loss."""

OBJECTIVES = ("sft", *LOSSES)

OF_THE_DATA = {"min_score", "filter", "lone", "overlong", "max_staleness", "normalise_std", "objective", "seed"}
"""Settings that choose rows, batches and advantages before any trainer sees them."""

OF_THE_TRAINER = {
    "optimizer",
    "lora",
    "token_budget",
    "steps",
    "batch_episodes",
    "epochs",
    "mini_batches",
    "clip_low",
    "clip_high",
    "dual_clip",
    "temperature",
    "max_tokens",
}

SILENT: dict[str, object] = {
    "devices": 1,
    "quantization": None,
    "checkpointing": "auto",
    "checkpoint_every": None,
    "observation_weight": 0.0,
    "kl": None,
    "ptx": None,
    "mismatch": None,
}
"""Settings that TRL would ignore or do otherwise, with the value at which there is nothing to ignore."""


def loss_of(config: OnPolicy) -> Loss:
    """The loss of an on-policy config that ``refusals`` has nothing against."""
    return LOSSES[config.objective]


def epsilon_high(config: OnPolicy) -> float:
    """``GRPOConfig.epsilon_high``: the width of the upper clip, but for CISPO the greatest weight itself."""
    return 1 + config.clip_high if isinstance(config, Cispo) else config.clip_high


def refusals(config: Objective) -> list[str]:
    """One sentence for each thing of ``config`` that TRL cannot do as it is asked, with what to do; empty if none."""
    objective = str(getattr(config, "objective", ""))
    if objective not in OBJECTIVES:
        return [f"objective = {objective}: TRL is given {', '.join(OBJECTIVES)}; train it with the local backend"]
    found = [sentence for name in type(config).model_fields if (sentence := _refusal(name, getattr(config, name)))]
    return found + (_clips(config) if isinstance(config, OnPolicy) else [])


def _refusal(name: str, value: object) -> str | None:
    if name in OF_THE_DATA | OF_THE_TRAINER or (name in SILENT and value == SILENT[name]):
        return None
    return f"{name} = {value!r}: TRL does not read it; leave it out, or train with the local backend"


def _clips(config: OnPolicy) -> list[str]:
    dual = getattr(config, "dual_clip", None)
    if isinstance(config, Cispo) and config.clip_low != 1:
        return [f"clip_low = {config.clip_low}: TRL's CISPO has no lower bound; set 1.0"]
    if dual is not None and dual < 1 + config.clip_high:
        return [f"dual_clip = {dual}: below 1 + clip_high TRL bounds positive advantages too; set more"]
    return []
