"""The value head of PPO and its loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

PREFIX = "value_head."


def of_value_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of an optimizer's state that is a value head's: its weights, moments and counts of updates."""
    found = {name: one for name, one in state.items() if PREFIX in name}
    counts = {f"step.{name}": state["step"].clone() for name in found if name.startswith(PREFIX)}
    return counts | found


class ValueHead(nn.Module):
    """Expected return from a hidden state: one linear map in fp32, zero at first.

    The state that predicts a token values what lies before it. Starting from zero, the first advantages are the
    plain returns rather than noise.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Values [...] of hidden states [..., H] in any precision."""
        values: Tensor = self.linear(states.float())[..., 0]
        return values

    def named(self) -> dict[str, nn.Parameter]:
        """Its parameters under names that no model's have."""
        return {PREFIX + name: one for name, one in self.named_parameters()}

    def carried(self) -> dict[str, Tensor]:
        """What the next training of the lineage goes on from: it is no part of a checkpoint's weights."""
        return {name: one.detach().cpu().contiguous() for name, one in self.named().items()}

    @torch.no_grad()
    def go_on(self, carried: Mapping[str, Tensor]) -> None:
        """Take the parent's; where that had none, stay as it is."""
        for name, one in self.named().items():
            if name in carried:
                one.copy_(carried[name])


def value_loss(
    value: Tensor, old_value: Tensor, returns: Tensor, n_tokens: int | None = None, value_clip: float | None = None
) -> Tensor:
    """Half the mean squared error to ``returns`` over the ``n_tokens`` tokens of the batch, all [T].

    With ``value_clip`` the larger of it and the error of ``value`` held within that distance of ``old_value``, the
    value that the advantages were made with (PPO as published in code; arXiv 2005.12729, section 3).
    """
    error = (value - returns) ** 2
    if value_clip is not None:
        held = old_value + (value - old_value).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (held - returns) ** 2)
    return 0.5 * error.sum() / (n_tokens or max(len(value), 1))
