"""A bin's terms through a model: log-probabilities where the loss needs them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu.attention import inner
from gpu.bins import Layout
from gpu.head import log_probs, output_layer
from gpu.layouts import hidden_states
from gpu.objectives.value import ValueHead
from gpu.tries import Trie


class Scored(NamedTuple):
    """Log-probability and entropy, nats, of each term of a bin, and its row of ``trie.terms`` as tensors, [N] each.

    ``value`` is the value head's of the state that predicts the term, where there is one.
    """

    logp: Tensor
    entropy: Tensor
    old_logp: Tensor
    sample: Tensor
    position: Tensor
    spoken: Tensor
    value: Tensor | None = None


def score(
    model: Any, trie: Trie, layout: Layout, temperature: float = 1.0, value_head: ValueHead | None = None
) -> Scored:
    """``log softmax(logits / temperature)`` of each term's token given its path.

    A token that several terms share is scored once. The state of its parent predicts it, at a branch that of one token
    for each child.

    Raises:
        InvalidInput: the model caps or scales its logits behind its output layer.
        PermanentError: attention did not receive the trie, or there is no kernel for the device.
    """
    device, terms = model.device, trie.terms
    tokens, which = np.unique(terms.token, return_inverse=True)
    states = hidden_states(model, trie, layout)
    hidden = states.index_select(0, torch.from_numpy(trie.parent[tokens]).to(device))
    targets = torch.from_numpy(trie.ids[tokens]).to(device)
    vocabulary = inner(model).config.get_text_config().vocab_size
    logp, entropy = log_probs(output_layer(model), hidden, targets, vocabulary, temperature)
    at = torch.from_numpy(which).to(device)
    old_logp, sample, position, spoken = (
        torch.from_numpy(one).to(device) for one in (terms.old_logp, terms.sample, terms.position, terms.spoken)
    )
    value = None if value_head is None else value_head(hidden)[at]
    return Scored(logp[at], entropy[at], old_logp, sample, position, spoken, value)
