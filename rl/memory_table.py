"""What a training holds of its device's memory, part by part, before its first step.

The backward pass starts at the last layer. By the time it reaches the first ``k`` layers, those behind them have freed
what they kept, so computing one of them again needs no memory of its own unless all layers do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from rl.memory import Architecture, gib, in_four_bits, kept

USABLE: Final = 0.9

HEAD_CHUNK_BYTES: Final = {"cpu": 64 << 20, "cuda": 512 << 20}
"""Logits that exist at the same time, in float32, by type of device."""

TRAINED_BYTES: Final = 4
"""Width of a trained parameter, its gradient and each of its moments, whatever that of the base is."""


@dataclass(frozen=True)
class Training:
    """What is known of a training before its first step; sizes in bytes.

    ``weights`` are those of the model as they are kept, without adapters, ``trained`` those of what is trained and
    ``optimizer`` those of its moments. ``rank`` is that of the adapters, None where the weights are trained. ``width``
    is that of an activation. ``token_budget`` is the config's, ``tokens`` what the largest bin has then, ``longest``
    what the largest bin has that cannot be cut. ``capacity`` is the device's and ``held`` what others hold of it.
    ``quantization`` is how the weights are kept, ``four_bits`` what they would be in four bits with what stays of the
    present ones; None where that cannot be chosen. ``layers`` can be checkpointed. ``reference`` says whether bins go
    through the base as well. Over ``devices`` the parameters, their gradients and moments are divided; ``weights``,
    ``trained`` and ``optimizer`` are the whole of them, ``capacity`` and ``held`` those of one device.
    """

    architecture: Architecture
    device: str
    capacity: int
    weights: int
    trained: int
    optimizer: int
    rank: int | None
    width: int
    token_budget: int
    tokens: int
    longest: int
    layers: int
    head_chunk: int
    held: int = 0
    reference: bool = False
    quantization: Literal["4bit"] | None = None
    four_bits: int | None = None
    devices: int = 1


@dataclass(frozen=True)
class Table:
    """What a training holds at its peak, in bytes, with bins of ``tokens`` and ``checkpointed`` layers computed again.

    ``activations`` are those of one bin, ``head`` is the larger of its logits and, where all layers are checkpointed,
    of one layer that is computed again. The ``reference`` pass is over before a bin's activations are there.
    ``gathered`` is what is whole for a while of parameters that are divided over several devices.
    """

    tokens: int
    checkpointed: int
    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    reference: int
    held: int
    capacity: int
    gathered: int = 0

    @property
    def total(self) -> int:
        """The most that is there at once."""
        lasting = self.weights + self.adapter + self.gradients + self.optimizer + self.gathered + self.held
        return lasting + max(self.activations + self.head, self.reference)

    @property
    def fits(self) -> bool:
        """Whether the total leaves the device's reserve alone."""
        return self.total <= USABLE * self.capacity

    def rows(self) -> list[tuple[str, int]]:
        """The table as people read it, total and capacity last."""
        again = f", {self.checkpointed} layers computed again" if self.checkpointed else ""
        return [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("gathered from all devices", self.gathered),
            (f"activations of {self.tokens:,} tokens{again}", self.activations),
            ("logits, or one layer again", self.head),
            ("reference pass, before the activations", self.reference),
            ("held by others", self.held),
            ("total", self.total),
            (f"the device has ({USABLE:.0%} may be used)", self.capacity),
        ]

    def __str__(self) -> str:
        """In GiB, one row a line, rows of nothing left out."""
        return "\n".join(f"{gib(size):>8} GiB  {name}" for name, size in self.rows() if size)


def foreseen(
    architecture: Architecture,
    *,
    device: str,
    capacity: int,
    cuda: bool,
    rank: int | None,
    token_budget: int,
    longest: int,
    held: int = 0,
    stays: int = 0,
    reference: bool = False,
    four_bits: bool = False,
    devices: int = 1,
) -> Training:
    """What a training will come to, from the widths of its model alone.

    Under an adapter of ``rank`` the base is bfloat16 on a CUDA device; weights that are trained (None), and all on a
    CPU, are float32. ``stays`` are the bytes that remain of the base where it is loaded in four bits for the training.
    """
    width = 2 if cuda and rank is not None else 4
    possible = four_bits and cuda and rank is not None and devices == 1
    trained = TRAINED_BYTES * (architecture.parameters if rank is None else architecture.adapter(rank))
    return Training(
        architecture=architecture,
        device=device,
        capacity=capacity,
        weights=width * architecture.parameters,
        trained=trained,
        optimizer=2 * trained,
        rank=rank,
        width=width,
        token_budget=token_budget,
        tokens=max(token_budget, longest),
        longest=longest,
        layers=architecture.layers,
        head_chunk=HEAD_CHUNK_BYTES["cuda" if cuda else "cpu"],
        held=held,
        reference=reference,
        four_bits=in_four_bits(architecture) + stays if possible else None,
        devices=devices,
    )


def table(training: Training, tokens: int, checkpointed: int) -> Table:
    """What the training holds with bins of ``tokens`` and the first ``checkpointed`` layers computed again."""
    one = training
    layer = tokens * kept(one.architecture, one.width, one.rank)
    whole = one.architecture.layers - checkpointed
    again = layer if whole == 0 else 0
    inputs = tokens * checkpointed * one.width * one.architecture.hidden
    return Table(
        tokens=tokens,
        checkpointed=checkpointed,
        weights=-(-one.weights // one.devices),
        adapter=0 if one.rank is None else -(-one.trained // one.devices),
        gradients=-(-one.trained // one.devices),
        optimizer=-(-one.optimizer // one.devices),
        activations=whole * layer + inputs,
        head=max(_head(one, tokens), again),
        reference=_reference(one, tokens) if one.reference else 0,
        held=one.held,
        capacity=one.capacity,
        gathered=_gathered(one),
    )


def _gathered(training: Training) -> int:
    """What FSDP has whole at its worst: embeddings and head, the layer at work and the next, and gradients of one."""
    one = training.architecture
    if training.devices == 1 or not one.layers:
        return 0
    adapter = 0 if training.rank is None else one.adapter(training.rank) // one.layers
    layer = training.width * one.body // one.layers + TRAINED_BYTES * adapter
    gradients = layer if training.rank is None else TRAINED_BYTES * adapter
    root = training.width * one.embeddings
    # Gradients are copied in the order in which they are sent.
    return root + 2 * layer + 2 * gradients + (root if training.rank is None else 0)


def _head(training: Training, tokens: int) -> int:
    """Two arrays of logits in float32 for a chunk, the states that are scored, and the head's own gradient."""
    one = training.architecture
    rows = min(tokens, max(training.head_chunk // (4 * one.vocabulary), 1))
    states = tokens * one.hidden * (4 + training.width)
    gradient = training.width * one.vocabulary * one.hidden if training.rank is None else 0
    return 2 * 4 * one.vocabulary * rows + states + gradient


def _reference(training: Training, tokens: int) -> int:
    """A forward pass that keeps nothing: its widest layer, or its logits."""
    one = training.architecture
    layer = tokens * training.width * (2 * one.hidden + 4 * one.feed_forward)
    return max(layer, _head(replace(training, rank=training.rank or 0), tokens))
