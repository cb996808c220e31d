"""The memory plan of one training: made from what is there, and carried out on the model."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from gpu import checkpointing, quantize
from gpu.attention import inner
from gpu.device import capacity, free_unused, in_use
from gpu.optimizer import AdamW
from gpu.ranks import ALONE, Ranks
from gpu.sharding import local
from rl import effective
from rl.config import TrainConfig
from rl.errors import InvalidInput, OutOfMemory
from rl.memory import WIDTHS, Architecture, architecture_of
from rl.memory_plan import MemoryPlan, plan, tighter
from rl.memory_table import HEAD_CHUNK_BYTES, Training, foreseen

log = logging.getLogger(__name__)

STEP_BYTES = 4
"""Adam counts the steps of every parameter, in a float32."""


def fit(
    model: Any,
    optimizer: AdamW,
    config: TrainConfig,
    device: torch.device,
    ranks: Ranks = ALONE,
    *,
    longest: int,
    tokens: int,
) -> MemoryPlan:
    """Choose how the training fits into ``device``, and checkpoint the layers of ``model`` that the choice names.

    ``longest`` are the tokens of the largest bin that cannot be cut; no bin has more than ``tokens``, or than the token
    budget of the config. Of several ``ranks`` all choose the same, by the device with the least room.

    Raises:
        InvalidInput: the config asks for more layers than can be checkpointed.
        OutOfMemory: no choice fits; says what the least would need, and what may be changed.
    """
    architecture, unknown = _architecture(model)
    here = measured(model, architecture, optimizer, config, device, ranks, longest=longest, tokens=tokens)
    found = plan(here, config.checkpointing)
    if unknown:
        found = replace(found, reason=f"{found.reason}; activations are not in the estimate: {unknown}")
    if not found.fits:
        raise OutOfMemory(found.refusal())
    checkpointing.apply(model, found.checkpointed_layers)
    log.info("memory: %s\n%s", found.reason, found.table)
    return found


def tightened(model: Any, planned: MemoryPlan, device: torch.device, *, largest: int, longest: int) -> MemoryPlan:
    """The plan to go on with after memory ran out with a largest bin of ``largest`` tokens, carried out.

    Raises:
        OutOfMemory: nothing is left that would need less.
    """
    free_unused(device)
    found = tighter(planned, largest, longest)
    if found is None:
        raise OutOfMemory(planned.refusal())
    checkpointing.apply(model, found.checkpointed_layers)
    log.warning("%s; going on with a token budget of %d", found.reason, found.token_budget)
    return found


def quantization(
    base: Path, config: TrainConfig, device: torch.device, *, longest: int, loaded: bool, served: bool
) -> Literal["4bit"] | None:
    """Whether the base in that folder should be loaded in four bits, known before it is loaded.

    What the config says, or four bits where an adapter is trained on a GPU and nothing else fits. ``longest`` are the
    tokens of the largest bin that cannot be cut. ``loaded`` says whether the base is on the device already, ``served``
    whether it stays there, because versions on it answer requests.
    """
    possible = config.devices == 1 and device.type == "cuda" and config.lora is not None and quantize.available()
    if config.quantization or config.lora is None or not possible:
        return config.quantization
    try:
        architecture = architecture_of(json.loads((base / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, InvalidInput) as error:
        log.warning("no estimate of memory before %s is loaded: %s", base, error)
        return None
    size = 2 * architecture.parameters
    before = foreseen(
        architecture,
        device=str(device),
        capacity=capacity(device),
        cuda=True,
        rank=config.lora.rank,
        token_budget=config.token_budget,
        longest=longest,
        held=max(in_use(device) - size * loaded, 0),
        stays=size * served,
        reference=_has_reference(config),
        four_bits=True,
    )
    return plan(before, config.checkpointing).quantization


def measured(
    model: Any,
    architecture: Architecture,
    optimizer: AdamW,
    config: TrainConfig,
    device: torch.device,
    ranks: Ranks = ALONE,
    *,
    longest: int,
    tokens: int,
) -> Training:
    """What the model that is there, and its optimizer, come to; several shares of a CPU have its memory together."""
    trained = sum(one.nbytes for one in optimizer.named.values())
    sizes = [(quantize.bytes_of(one), one.requires_grad) for one in model.parameters()]
    everything, frozen = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if not is_trained)
    moments = [one for state in optimizer.adam.state.values() for one in state.values()]
    ours = sum(quantize.bytes_of(local(one)) for one in [*model.parameters(), *moments])
    room = capacity(device) // (ranks.world if device.type == "cpu" else 1)
    return Training(
        architecture=architecture,
        device=str(device),
        capacity=ranks.least(room),
        weights=frozen if config.lora else everything,
        trained=trained,
        optimizer=2 * trained + STEP_BYTES * len(optimizer.named),
        rank=config.lora.rank if config.lora else None,
        width=model.dtype.itemsize,
        token_budget=config.token_budget,
        tokens=max(min(config.token_budget, tokens), longest),
        longest=longest,
        layers=len(checkpointing.layers_of(model)),
        head_chunk=HEAD_CHUNK_BYTES.get(device.type, HEAD_CHUNK_BYTES["cuda"]),
        held=ranks.most(max(in_use(device) - ours, 0)),
        reference=_has_reference(config),
        quantization="4bit" if getattr(inner(model), "is_loaded_in_4bit", False) else None,
        devices=ranks.world,
    )


def _architecture(model: Any) -> tuple[Architecture, str]:
    """The widths of a model. Where they are unknown all but its layers and vocabulary are 0, and it is said why."""
    config = inner(model).config.get_text_config()
    try:
        return architecture_of({name: getattr(config, name, None) for name in WIDTHS}), ""
    except InvalidInput as error:
        return Architecture(len(checkpointing.layers_of(model)), 0, 0, 0, 0, config.vocab_size), str(error)


def _has_reference(config: TrainConfig) -> bool:
    return bool(effective.derived(config)["reference_model"])
