"""What ART's training service honours of a training's config, and the names that it gives to it.

Each setting is sent, or applied before anything is sent, or says nothing at the value that ``SILENT`` names, or is
refused by name: one that the objectives gain later is refused until it is listed here. ``docs/backends.md`` says what
each becomes.
"""

from __future__ import annotations

from typing import Final

from rl.objectives import Cispo, Gspo, Objective, OnPolicy, ReinforceBaseline
from rl.training import Lora, Optimizer

OBJECTIVES: Final = ("grpo", "gspo", "cispo", "reinforce_baseline")
INSTEAD: Final = "leave it out, or train with the local backend"

BEFORE: Final = {"filter", "lone", "max_staleness"}
"""Settings by which rows are left out and groups are made before anything is sent."""
SENT: Final = {"objective", "optimizer", "clip_low", "clip_high", "normalise_std"}
"""Settings that the request carries; of ``optimizer`` the rate alone."""

SILENT: Final[dict[str, object]] = {
    "lora": Lora(),
    "token_budget": 3072,
    "devices": 1,
    "quantization": None,
    "checkpointing": "auto",
    "checkpoint_every": None,
    "seed": 0,
    "epochs": 1,
    "mini_batches": 1,
    "temperature": 1.0,
    "kl": None,
    "ptx": None,
    "overlong": None,
    "mismatch": None,
    "dual_clip": None,
}
"""Settings that the service does not read, with the value at which there is nothing to ignore."""
LEFT_TO_THE_SERVICE: Final = ("lora", "optimizer but for its rate", "updates of a batch", "means over tokens")
"""What no request says: the service has its own."""


def refusals(config: Objective) -> list[str]:
    """One sentence for each thing of ``config`` that ART's service cannot do as it is asked; empty if none."""
    objective = str(getattr(config, "objective", ""))
    if objective == "sft":
        return ["objective = sft: its rows would have to be uploaded as an artifact; train it with the local backend"]
    if objective not in OBJECTIVES:
        return [f"objective = {objective}: ART is given {', '.join(OBJECTIVES)}; train it with the local backend"]
    found = [sentence for name in type(config).model_fields if (sentence := _refusal(name, getattr(config, name)))]
    return found + _of_optimizer(config.optimizer) + _of_scaling(config)


def experimental_config(config: OnPolicy) -> dict[str, object]:
    """``experimental_config`` of the request for a config that ``refusals`` has nothing against."""
    is_scaled = not isinstance(config, ReinforceBaseline) or config.normalise_std
    return {
        "learning_rate": config.optimizer.learning_rate,
        "ppo": not isinstance(config, Cispo),
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high,
        "importance_sampling_level": "sequence" if isinstance(config, Gspo) else "token",
        "scale_rewards": is_scaled,
        "advantage_balance": 0.0,
        "mask_prob_ratio": False,
        "precalculate_logprobs": False,
    }


def _refusal(name: str, value: object) -> str | None:
    if name in BEFORE | SENT or (name in SILENT and value == SILENT[name]):
        return None
    if name == "lora":
        return f"lora = {value!r}: the service trains an adapter of its own rank; set lora = {{}}"
    if name in SILENT and SILENT[name] is not None:
        return f"{name} = {value!r}: ART does not read it; set {SILENT[name]!r}, or train with the local backend"
    return f"{name} = {value!r}: ART does not read it; {INSTEAD}"


def _of_optimizer(asked: Optimizer) -> list[str]:
    plain = Optimizer(learning_rate=asked.learning_rate)
    return [
        f"optimizer.{name} = {getattr(asked, name)!r}: ART reads the learning rate alone; {INSTEAD}"
        for name in Optimizer.model_fields
        if getattr(asked, name) != getattr(plain, name)
    ]


def _of_scaling(config: Objective) -> list[str]:
    if isinstance(config, ReinforceBaseline) and config.normalise_std:
        remedy = "set normalise_std = false, or objective = grpo"
        return [f"normalise_std = True: ART divides by the deviation of each group, not of the batch; {remedy}"]
    return []
