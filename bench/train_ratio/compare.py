"""One workload through all arms on one model: gradients first, then peaks, then time in turns."""

from __future__ import annotations

from typing import Any

import torch

from bench.train_ratio import meter
from bench.train_ratio.arms import masked, ours, padded
from bench.train_ratio.meter import Step
from bench.train_ratio.model import Sizes, build, distance, gradient
from bench.train_ratio.trl_arm import trl
from bench.train_ratio.workloads import Make


def compare(
    make: Make, sizes: Sizes, device: torch.device, dtype: torch.dtype, seed: int, pairs: int, share: float
) -> dict[str, Any]:
    """How many times longer each peer takes than ours, with what is needed to judge it.

    ``efficiency`` is the ratio to the good padded arm in units of the token ratio: how much of the tokens that were
    not computed became time.
    """
    work, model = make(seed, sizes.vocabulary, share), build(sizes, seed, device, dtype)
    arms = {name: make_arm(model, work) for name, make_arm in arms_of(work.name).items()}
    gradients = {}
    for name, step in arms.items():
        step()
        gradients[name] = gradient(model)
    arms = {name: _forgetting(step, model) for name, step in arms.items()}
    peaks = {name: meter.peak_bytes(step, device) for name, step in arms.items()}
    seconds = meter.interleaved(arms, device, pairs)
    shares = work.shares
    found: dict[str, Any] = {
        "what": work.what,
        "model": str(sizes),
        "pairs": pairs,
        "prefix_share": round(shares.prefix, 3),
        "token_ratio": round(shares.token_ratio, 3),
        "unique_tokens": shares.unique,
        "padded_tokens": shares.padded,
    }
    for peer in (name for name in arms if name != "ours"):
        found[f"vs_{peer}"], found[f"vs_{peer}_interval"] = meter.ratio(seconds[peer], seconds["ours"], seed)
    found["efficiency"] = found["vs_padded"] / shares.token_ratio
    found["arms"] = {
        name: {
            "seconds": (median := meter.median(seconds[name])),
            "unique_tokens_per_second": shares.unique / median,
            "peak_bytes": peaks[name],
            "gradient_error": distance(gradients[name], gradients["padded"]),
        }
        for name in arms
    }
    return found


ARMS = {"ours": ours, "padded": padded, "trl": trl}


def arms_of(workload: str) -> dict[str, Any]:
    """What makes each arm's step; a conversation is compared with padded samples of its turns as well."""
    return ARMS | ({"masked": masked} if workload == "conversation" else {})


def _forgetting(step: Step, model: Any) -> Step:
    """The step from no gradients, as the optimizer leaves them."""

    def fresh() -> None:
        model.zero_grad(set_to_none=True)
        step()

    return fresh
