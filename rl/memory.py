"""What a training needs of a device's memory, in bytes, and what an attempt that ran out of it changes.

A training holds four things at once, for ``P`` parameters of which ``T`` are trained:

* weights: ``P`` times the width of one (4 bytes for float32, 2 for bfloat16, about a half in four bits);
* gradients: ``T`` times the width they are trained in;
* optimizer: Adam's two moments, twice the gradients;
* activations: what the backward pass needs of every token of a micro-batch, at least of one sequence.

One layer keeps of a token, with ``h`` the hidden size, ``f`` that of the feed-forward, ``q`` and ``k`` the widths of
all query and all key heads, and ``a`` bytes an activation:

* the inputs of its norms, always in float32: ``4 (2h + q + k)``;
* what its linear layers read: ``a (2h + q + f)``; where adapters are float32 on a narrower base each adapter keeps a
  float32 copy of its own input instead, ``4 (5h + q + f)``;
* gate, activation and up of the feed-forward, and queries, keys, values and the result of attention:
  ``a (3f + 2q + 2k)``;
* without adapters, what the norms' weights are multiplied with: ``a (2h + q + k)``.

Between its two matrices an adapter of rank ``r`` keeps ``4 r`` more. What the head holds, what checkpointing leaves,
and what of it several devices divide is in ``rl.memory_table``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rl.errors import InvalidInput
from rl.training import Train

GIB: Final = 1 << 30

EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts")


WIDTHS: Final = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
    *EXPERTS,
)
"""What ``architecture_of`` reads, by transformers' names."""

SMALLEST_BUDGET: Final = 64
HALVINGS: Final = 3


@dataclass(frozen=True)
class Architecture:
    """The widths of a decoder. ``query`` and ``key`` are those of all heads together.

    ``tied`` says whether the output layer is the embeddings themselves.
    """

    layers: int
    hidden: int
    feed_forward: int
    query: int
    key: int
    vocabulary: int
    tied: bool = False

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one decoder layer: q, k, v, o, gate, up, down."""
        h, f = self.hidden, self.feed_forward
        return [(h, self.query), (h, self.key), (h, self.key), (self.query, h), (h, f), (h, f), (f, h)]

    @property
    def body(self) -> int:
        """Parameters of all linear layers of the body."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.shapes)

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings and, where it has its own, of the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All of them but biases and norms, which are less than a thousandth."""
        return self.body + self.embeddings

    def adapter(self, rank: int) -> int:
        """Parameters of a low-rank adapter on every linear layer of the body."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.shapes)


def architecture_of(config: Mapping[str, object]) -> Architecture:
    """The widths that a model's ``config.json`` names, by transformers' names of them.

    Raises:
        InvalidInput: a width is missing, or tokens take different ways through it (a mixture of experts).
    """
    inner = config.get("text_config")
    text: Mapping[str, object] = inner if isinstance(inner, Mapping) else config
    for name in EXPERTS:
        if text.get(name):
            raise InvalidInput(name, text[name], "memory of a mixture of experts is not estimated")
    heads = _width(text, "num_attention_heads")
    size = _width(text, "head_dim", _width(text, "hidden_size") // heads)
    return Architecture(
        layers=_width(text, "num_hidden_layers"),
        hidden=_width(text, "hidden_size"),
        feed_forward=_width(text, "intermediate_size"),
        query=heads * size,
        key=_width(text, "num_key_value_heads", heads) * size,
        vocabulary=_width(text, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _width(config: Mapping[str, object], name: str, otherwise: int | None = None) -> int:
    value = config.get(name)
    value = otherwise if value is None else value
    if not isinstance(value, int) or value < 1:
        raise InvalidInput(name, value, "the model's config.json must name this width for an estimate of its memory")
    return value


def kept(architecture: Architecture, width: int, rank: int | None) -> int:
    """Bytes that one layer keeps of one token for the backward pass, by the formula above.

    ``width`` is that of an activation, 4 or 2 bytes; ``rank`` that of the adapters, None where the weights are trained.
    """
    one = architecture
    h, f, q, k = one.hidden, one.feed_forward, one.query, one.key
    norms = 4 * (2 * h + q + k)
    inputs = 4 * (5 * h + q + f) if rank is not None and width < 4 else width * (2 * h + q + f)
    inner = width * (3 * f + 2 * q + 2 * k)
    if rank is not None:
        return norms + inputs + inner + 4 * len(one.shapes) * rank
    return norms + inputs + inner + width * (2 * h + q + k)


def in_four_bits(architecture: Architecture) -> int:
    """Bytes of the weights with the body in NF4 and double quantisation (arXiv 2305.14314), the rest in bfloat16.

    Blocks of 64 weights share a scale of one byte, and 256 scales a float32.
    """
    return int(architecture.body * (0.5 + 1 / 64 + 4 / (64 * 256))) + 2 * architecture.embeddings


def smaller(config: Mapping[str, object], original: Mapping[str, object], *, cuda: bool) -> dict[str, object] | None:
    """What the attempt after one that ran out of memory changes in its training config; None when nothing is left.

    ``config`` is the training config (as JSON) that ran out, ``original`` the one the job was made with. First the
    token budget is halved, at most ``HALVINGS`` times in all and never below ``SMALLEST_BUDGET``; then, on a CUDA
    device, an adapter's base is kept in four bits; not over several devices, which cannot divide it then.
    """
    half = _budget(config) // 2
    if half >= SMALLEST_BUDGET and half >= _budget(original) >> HALVINGS:
        return {"token_budget": half}
    one = int(str(config.get("devices", 1))) == 1
    if cuda and one and config.get("lora") is not None and config.get("quantization") is None:
        return {"quantization": "4bit"}
    return None


def gib(size: int) -> str:
    """Bytes in GiB, with one decimal."""
    return f"{size / GIB:.1f}"


def _budget(config: Mapping[str, object]) -> int:
    return int(str(config.get("token_budget", Train.model_fields["token_budget"].default)))
