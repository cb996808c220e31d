"""Hidden states of a trie's tokens, along the trie or as padded rows, and which of them a model can be trusted with.

Both give the same states and the same gradients where a model attends plainly to all that stands before a token. Where
it does not, or where a random trie shows that it does not, bins are computed as padded rows, and the reason is said.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpu import flex
from gpu.attention import inner, install, tree_states
from gpu.bins import Layout
from gpu.tries import Ints, Trie, build
from rl.errors import PermanentError
from rl.records import Sequence as TokenSequence

LEAST_PREFIX_SHARE = 0.02
"""Below this share of tokens in common prefixes, sequences are packed whole."""

IDS = 256
"""The random trie is made of ids below this."""

_found: dict[tuple[str, ...], str | None] = {}


def hidden_states(model: Any, trie: Trie, layout: Layout) -> Tensor:
    """The body's last hidden states of all tokens of ``trie``, [T, H]."""
    return padded_states(model, trie) if layout == "padded" else tree_states(model, trie)


def padded_states(model: Any, trie: Trie, rows_at_once: int | None = None) -> Tensor:
    """As ``tree_states``, with one right-padded row for each leaf. A shared token's state is that of one row.

    Nothing looks ahead, so the tokens behind a row's end need no mask.
    """
    rows = _rows(trie)
    ids = np.where(rows >= 0, trie.ids[rows], 0)
    body = inner(model).base_model
    parts = torch.split(_on(ids, model), rows_at_once or max(len(rows), 1))
    states = torch.cat([body(input_ids=part, use_cache=False).last_hidden_state for part in parts])
    row, column = np.empty(len(trie), np.int64), np.empty(len(trie), np.int64)
    at = np.nonzero(rows >= 0)
    row[rows[at]], column[rows[at]] = at
    return states[_on(row, model), _on(column, model)]


def choose(model: Any, prefix_share: float) -> tuple[Layout, str]:
    """The layout for data with that share of common prefixes (``Shares.prefix``), and why."""
    reason = check(model)
    if reason is not None:
        return "padded", reason
    if model.training and _draws(model):
        return "packed", "dropout draws a mask for every sequence; without it common prefixes are computed once"
    if prefix_share < LEAST_PREFIX_SHARE:
        return "packed", f"{prefix_share:.1%} of all tokens stand in common prefixes"
    return "tree", f"{prefix_share:.1%} of all tokens stand in common prefixes, which are computed once"


def check(model: Any) -> str | None:
    """Why attention over tries is not exact for ``model``, or None where it is; ``model`` then takes it from here.

    On first use of a kind of model a small random trie is computed both ways, and states and gradients with respect
    to the token embeddings are compared. In low precision they may differ by a few times as much as padded rows
    differ when computed one at a time.
    """
    reason = _refusal(model)
    if reason is not None:
        return reason
    base, key = inner(model), _key(model, model.device)
    before = base.config._attn_implementation
    install(model)
    if key not in _found:
        _found[key] = _measured(model)
    if _found[key] is not None:
        base.set_attn_implementation(before)
    return _found[key]


def foresee(model: Any, device: torch.device) -> None:
    """Have ``check`` know what it would say of ``model`` on ``device`` once its parameters lie in parts.

    A model in parts cannot be differentiated half-way, so a small one of its kind is measured: two layers, random.
    """
    base, key = inner(model), _key(model, device)
    if key in _found:
        return
    config = copy.deepcopy(base.config)
    text = config.get_text_config()
    text.num_hidden_layers = 2
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small: Any = type(base)._from_config(config, dtype=model.dtype)
    _found[key] = check(small.to(device))


def _key(model: Any, device: torch.device) -> tuple[str, ...]:
    """What the answer of ``check`` depends on."""
    base = inner(model)
    return type(base).__name__, base.config.to_json_string(), str(model.dtype), device.type


def _refusal(model: Any) -> str | None:
    """What can be read from the model's config."""
    base = inner(model)
    config = base.config.get_text_config()
    if model.device.type != "cpu" and not flex.available(model.device):
        return f"attention over tries on {model.device.type} needs CUDA and Triton"
    if not type(base)._supports_attention_backend:
        return f"{type(base).__name__} does not take its attention from the registry"
    unlike = {kind for kind in getattr(config, "layer_types", None) or [] if kind != "full_attention"}
    if unlike:
        return f"some of its layers do not attend to all that stands before: {', '.join(sorted(unlike))}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"its attention slides over {config.sliding_window} tokens"
    if getattr(config, "attention_dropout", 0.0):
        return f"attention_dropout is {config.attention_dropout}"
    return None


def _draws(model: Any) -> bool:
    return any(isinstance(one, nn.Dropout) and one.p > 0 for one in model.modules())


def _measured(model: Any) -> str | None:
    """What a random trie shows: a difference, or a kernel that does not run at all for this model."""
    trie = _random_trie(inner(model).config.get_text_config().vocab_size)
    training = model.training
    model.eval()
    try:
        padded = _states_and_gradient(model, trie, padded_states)
        single = _states_and_gradient(model, trie, partial(padded_states, rows_at_once=1))
        ours = _states_and_gradient(model, trie, tree_states)
    except torch.OutOfMemoryError:
        raise
    except (PermanentError, RuntimeError, ValueError) as failure:
        return f"attention over tries does not run for it: {failure}"
    finally:
        model.train(training)
    noise, error = _distance(single, padded), _distance(ours, padded)
    limit = max(4 * noise, 8 * torch.finfo(model.dtype).eps, 1e-4)
    if error <= limit:
        return None
    return f"on a random trie it differs from padded rows by {error:.1e}, where {limit:.1e} could be rounding"


def _random_trie(vocabulary: int) -> Trie:
    """Two trees: branches at several depths, siblings long and short, a sequence that ends within another."""
    random = np.random.default_rng(0)
    first, second, third = (random.integers(1, min(vocabulary, IDS), size).tolist() for size in (90, 70, 60))
    ids = [first + third[:9], first + second, first + second[:30], first + second[:40] + third[:50], third[10:60]]
    ids += [third[10:35] + one for one in (first[:3], second[:8])]
    return build([TokenSequence(episode=0, ids=one, mask=[0] * len(one), logprobs=[0.0] * len(one)) for one in ids])


def _states_and_gradient(model: Any, trie: Trie, states_of: Callable[[Any, Trie], Tensor]) -> tuple[Tensor, Tensor]:
    """States [T, H], and the gradient of a random sum of them with respect to each id's embeddings, [IDS, H]."""
    met: list[tuple[Tensor, Tensor]] = []

    def leaf(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        met.append((inputs[0], output.detach().requires_grad_()))
        return met[-1][1]

    hook = inner(model).get_input_embeddings().register_forward_hook(leaf)
    try:
        states = states_of(model, trie)
    finally:
        hook.remove()
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).to(states.device)
    parts = torch.autograd.grad((states.float() * weights).sum(), [output for _, output in met])
    gradient = torch.zeros(IDS, states.shape[-1], device=states.device)
    for (ids, _), part in zip(met, parts, strict=True):
        gradient.index_add_(0, ids.flatten(), part.flatten(0, 1).float())
    return states.detach().float(), gradient


def _distance(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """The larger of the relative L2 distances of states and of gradients."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((one - two).norm() / two.norm().clamp(min=1e-30)) for one, two in pairs)


def _rows(trie: Trie) -> Ints:
    """The trie's indices of each leaf's tokens, [leaves, longest], -1 behind their ends."""
    paths = trie.paths()
    rows = np.full((len(paths), max(map(len, paths), default=0)), -1)
    for row, path in zip(rows, paths, strict=True):
        row[: len(path)] = path
    return rows


def _on(indices: Ints, model: Any) -> Tensor:
    return torch.from_numpy(indices).to(model.device)
