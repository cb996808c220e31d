"""Objectives: pure functions from flat per-token arrays to a scalar loss.

Every array has one entry for each token the policy is trained on, shape [T], whatever sequences the tokens
came from. A loss is a sum over tokens with fixed denominators, so that the losses of micro-batches add up
to the loss of the batch when the denominators of the whole batch are given.
"""

from gpu.objectives.likelihood import ptx, sft, weighted_sft
from gpu.objectives.penalties import kl_estimate, kl_penalty
from gpu.objectives.policy import cispo, dr_grpo, grpo, gspo, per_episode, ppo_token_mean, rloo
from gpu.objectives.preference import dpo, preferred
from gpu.objectives.ratios import clipped, drift
from gpu.objectives.select import Terms, Whole, kl_loss, policy_loss
from gpu.objectives.value import ValueHead, value_loss

__all__ = [
    "Terms",
    "ValueHead",
    "Whole",
    "cispo",
    "clipped",
    "dpo",
    "dr_grpo",
    "drift",
    "grpo",
    "gspo",
    "kl_estimate",
    "kl_loss",
    "kl_penalty",
    "per_episode",
    "policy_loss",
    "ppo_token_mean",
    "preferred",
    "ptx",
    "rloo",
    "sft",
    "value_loss",
    "weighted_sft",
]
