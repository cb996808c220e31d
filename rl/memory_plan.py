"""How a training is fitted into its device's memory: the choice that is made before its first step, and why.

The first of these that fits is taken:

1. no layer computes its activations again;
2. as few layers as possible do, the first of the model (activation checkpointing, arXiv 1604.06174), at most all;
3. all do, with the largest token budget that fits, at least the longest sequence;
4. the same with the frozen base in four bits, where that is possible.

A config that names a number of layers leaves out the others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from rl.errors import InvalidInput
from rl.memory import GIB, gib
from rl.memory_table import Table, Training, table
from rl.training import Checkpointing


@dataclass(frozen=True)
class MemoryPlan:
    """How a training uses its device's memory, and why.

    ``token_budget`` is the config's or a smaller one, ``deepest`` the most layers that the config lets be checkpointed.
    Where ``fits`` is False the table is that of the least that could be tried.
    """

    training: Training
    table: Table
    checkpointed_layers: int
    deepest: int
    token_budget: int
    quantization: Literal["4bit"] | None
    reason: str

    @property
    def fits(self) -> bool:
        """Whether the table leaves the device's reserve alone."""
        return self.table.fits

    def manifest(self) -> dict[str, object]:
        """As JSON: the choice, the reason and the table in bytes."""
        chosen = {
            "checkpointed_layers": self.checkpointed_layers,
            "layers": self.training.architecture.layers,
            "token_budget": self.token_budget,
            "quantization": self.quantization,
            "reason": self.reason,
        }
        return {**chosen, "device": self.training.device, "bytes": {**asdict(self.table), "total": self.table.total}}

    def metrics(self) -> dict[str, float]:
        """In short, for a line of progress."""
        return {
            "memory_estimate_gib": round(self.table.total / GIB, 3),
            "memory_capacity_gib": round(self.table.capacity / GIB, 3),
            "checkpointed_layers": float(self.checkpointed_layers),
        }

    def refusal(self) -> str:
        """Why the training cannot be done here, with the table and what may be changed."""
        remedies = ["train on shorter sequences", "use a device with more memory"]
        if self.checkpointed_layers < self.training.layers:
            remedies.insert(0, "let all layers be checkpointed (checkpointing = auto)")
        if self.training.rank is None:
            remedies.insert(0, "train an adapter (lora)")
        elif self.quantization is None and self.training.device.startswith("cuda"):
            remedies.insert(0, "keep the base in four bits (quantization = 4bit)")
        needs = f"training needs about {gib(self.table.total)} GiB, and {self.training.device} has"
        return f"{needs} {gib(self.table.capacity)} GiB: {', or '.join(remedies)}\n{self.table}"


def plan(training: Training, asked: Checkpointing = "auto") -> MemoryPlan:
    """The first choice that fits; one whose ``fits`` is False where none does.

    Raises:
        InvalidInput: more layers are asked for than can be checkpointed.
    """
    depths = _depths(training, asked)
    found = _fitted(training, depths)
    if not found.fits and training.four_bits is not None and training.four_bits < training.weights:
        smaller = replace(training, weights=training.four_bits, four_bits=None, quantization="4bit")
        found = _fitted(smaller, depths)
    return found


def tighter(planned: MemoryPlan, largest: int, longest: int) -> MemoryPlan | None:
    """What to do after memory ran out with a largest bin of ``largest`` tokens; None when nothing is left.

    The estimate was too low, or others took what was there. Half the token budget costs hardly any time, so
    that is first, down to ``longest`` tokens in a bin; then all layers are checkpointed.
    """
    one = planned.training
    if largest > longest:
        budget = max(min(planned.token_budget, largest) // 2, longest)
        now = table(one, budget, planned.checkpointed_layers)
        reason = f"memory ran out with {largest:,} tokens in a bin"
        return replace(planned, table=now, token_budget=budget, reason=reason)
    if planned.checkpointed_layers < planned.deepest:
        now, reason = (
            table(one, longest, planned.deepest),
            f"memory ran out with {longest:,} tokens, the least in a bin",
        )
        return replace(planned, table=now, checkpointed_layers=planned.deepest, reason=reason)
    return None


def _depths(training: Training, asked: Checkpointing) -> range:
    """The numbers of checkpointed layers that may be chosen."""
    most = training.layers
    if asked == "auto":
        return range(most + 1)
    named = {"none": 0, "all": most}
    only = named[asked] if isinstance(asked, str) else asked
    if only > most:
        raise InvalidInput("config.checkpointing", asked, f"the model has {most} layers that can be checkpointed")
    return range(only, only + 1)


def _fitted(training: Training, depths: range) -> MemoryPlan:
    tables = (table(training, training.tokens, depth) for depth in depths)
    found = next((one for one in tables if one.fits), None)
    budget = training.token_budget
    if found is None:
        tokens = _largest(training, depths[-1])
        found, budget = table(training, tokens, depths[-1]), min(tokens, budget)
    reason = _reason(training, found, len(depths) == 1)
    return MemoryPlan(training, found, found.checkpointed, depths[-1], budget, training.quantization, reason)


def _largest(training: Training, depth: int) -> int:
    """The most tokens that fit with ``depth`` layers checkpointed, at least the longest sequence."""
    low, high = training.longest, training.tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if table(training, middle, depth).fits else (low, middle - 1)
    return low


def _reason(training: Training, found: Table, fixed: bool) -> str:
    layers = training.architecture.layers
    depth = f"{found.checkpointed} of {layers} layers are checkpointed"
    if training.quantization:
        depth += ", the base is in four bits"
    if not found.fits:
        return f"it does not fit with bins of {found.tokens:,} tokens; {depth}"
    if found.tokens < training.tokens:
        return f"bins of {training.tokens:,} tokens do not fit, of {found.tokens:,} they do; {depth}"
    if fixed:
        return f"{depth}, as the config says"
    return f"{depth}, the fewest that fit" if found.checkpointed or training.quantization else "everything fits"
