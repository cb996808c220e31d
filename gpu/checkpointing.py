"""Activation checkpointing of a model's first layers: what they keep is computed again in the backward pass.

transformers switches it on for all layers or for every n-th. Here the first ``k`` are taken: when the backward pass
reaches them, the layers behind them have freed what they kept, so no number of layers needs more than the estimate of
``rl.memory_table``. Gradients stay the same to the bit, except where kernels themselves differ from run to run.
"""

from __future__ import annotations

from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer

from gpu.attention import inner
from rl.errors import InvalidInput


def layers_of(model: Any) -> list[GradientCheckpointingLayer]:
    """The decoder layers that can be checkpointed, first to last; none where the kind of model cannot."""
    base = inner(model)
    if not base.supports_gradient_checkpointing:
        return []
    return [one for one in base.get_decoder().modules() if isinstance(one, GradientCheckpointingLayer)]


def apply(model: Any, count: int) -> None:
    """Checkpoint the first ``count`` decoder layers of ``model`` whenever it is in train mode, and no others.

    Raises:
        InvalidInput: the model has fewer that can be.
    """
    layers, base = layers_of(model), inner(model)
    if count > len(layers):
        remedy = f"the model has {len(layers)} layers that can be checkpointed"
        raise InvalidInput("config.checkpointing", count, remedy)
    if count:
        base.activation_checkpointing_enable({"use_reentrant": False})
        # transformers lets embeddings require gradients, for the reentrant kind: a backward pass nobody needs.
        base.disable_input_require_grads()
    elif layers:
        base.activation_checkpointing_disable()
    for place, layer in enumerate(layers):
        layer.gradient_checkpointing = place < count


def checkpointed(model: Any) -> int:
    """How many decoder layers are."""
    return sum(layer.gradient_checkpointing for layer in layers_of(model))
