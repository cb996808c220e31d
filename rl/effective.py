"""What an objective's config comes to: every setting with its default, what follows from them, and known traps."""

from __future__ import annotations

from pydantic import BaseModel

from rl.kl import STEP
from rl.objectives import Cispo, Gspo, Objective, OnPolicy, Ppo

MAX_UPDATES = 8
MAX_GSPO_CLIP = 0.01
MAX_KL_STEP = 0.3
MIN_GROUP = 4


def manifest(config: Objective, episodes: int | None = None, group_size: int | None = None) -> dict[str, object]:
    """The config in effect, as JSON: ``settings`` whole, ``derived`` from them, and ``warnings``.

    ``episodes`` of a batch and the smallest ``group_size`` are of the data; warnings that need them are left out
    where they are None.
    """
    settings = _plain(config)
    return {"settings": settings, "derived": derived(config), "warnings": warnings(config, episodes, group_size)}


def derived(config: Objective) -> dict[str, object]:
    """What no setting says in one word: baseline, ratio, denominators, and which extra passes a batch costs."""
    facts: dict[str, object] = {
        "baseline": config.baseline,
        "ratio": config.ratio,
        "loss_is_mean_over": config.aggregation,
        "on_policy_only": isinstance(config, OnPolicy),
        "reference_model": getattr(config, "kl", None) is not None or config.aggregation == "pairs",
    }
    if isinstance(config, OnPolicy):
        facts |= {
            "updates_per_batch": config.epochs * config.mini_batches,
            "old_logprobs": "recomputed" if config.mismatch else "stored",
            "ratio_bounds": [1 - config.clip_low, 1 + config.clip_high],
            "value_head": isinstance(config, Ppo),
            "kl": f"{config.kl.estimator} in the {config.kl.place}" if config.kl else "none",
        }
    return facts


def warnings(config: Objective, episodes: int | None = None, group_size: int | None = None) -> list[str]:
    """Published traps that ``config`` walks into, one sentence each with the value and the remedy.

    ``episodes`` is how many a batch has, and ``group_size`` how many its smallest group has.
    """
    if not isinstance(config, OnPolicy):
        return []
    found = [*_updates(config), *_clips(config), *_kl(config, episodes)]
    grouped = config.baseline not in ("none", "gae")
    if grouped and group_size is not None and group_size < MIN_GROUP:
        found.append(f"groups of {group_size}: a baseline of so few is mostly noise; play at least {MIN_GROUP} each")
    return found


def _updates(config: OnPolicy) -> list[str]:
    updates = config.epochs * config.mini_batches
    if updates <= MAX_UPDATES:
        return []
    return [
        f"epochs = {config.epochs} times mini_batches = {config.mini_batches} is {updates} updates on one batch; "
        f"more than {MAX_UPDATES} learn from a policy that is gone"
    ]


def _clips(config: OnPolicy) -> list[str]:
    widest = max(config.clip_low, config.clip_high)
    if isinstance(config, Gspo) and widest > MAX_GSPO_CLIP:
        return [f"clip width {widest}: ratios of whole samples hardly leave 1, so it never binds; the paper has 3e-4"]
    if isinstance(config, Cispo) and config.clip_high < 1:
        return [f"clip_high = {config.clip_high}: CISPO cuts weights above {1 + config.clip_high}; its range is 1 to 4"]
    return []


def _kl(config: OnPolicy, episodes: int | None) -> list[str]:
    kl, found = config.kl, []
    if kl and kl.place == "loss" and kl.estimator == "k1":
        found.append("kl.estimator = k1 in the loss: its gradient is 0 on average on policy; use k2, or place = reward")
    if kl and kl.place == "reward" and kl.estimator != "k1":
        found.append(f"kl.estimator = {kl.estimator} in the reward pulls elsewhere than the KL does; use k1")
    if kl and kl.horizon and episodes and STEP * episodes / kl.horizon > MAX_KL_STEP:
        found.append(
            f"kl.horizon = {kl.horizon:g}: {episodes} episodes move the coefficient by up to "
            f"{STEP * episodes / kl.horizon:.0%} a batch; set at least {STEP * episodes / MAX_KL_STEP:.0f}"
        )
    return found


def _plain(value: object) -> object:
    """As JSON, fields at their defaults included: a dump leaves some out."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    return list(value) if isinstance(value, tuple) else value
