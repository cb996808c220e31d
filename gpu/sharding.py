"""A model whose parameters lie in parts on several devices (FSDP2), and whole tensors from those parts.

Each decoder layer is gathered when a bin reaches it and given up behind it; embeddings, last norm and head go together.
Gradients are summed over the processes and not averaged, because losses have denominators of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from gpu.checkpointing import layers_of

T = TypeVar("T")


class Root(nn.Module):
    """Runs work on a sharded model. FSDP's hooks are on this call: body and head are called apart from the model's."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Any], T]) -> T:
        """What ``work`` makes of the model. Tensors in it may stand in tuples, lists and dicts only."""
        return work(self.model)


def shard(model: Any, device: torch.device, world: int) -> Root:
    """Leave each of ``world`` processes its part of every parameter of ``model``, on ``device``.

    The model may lie elsewhere before: it is moved a layer at a time. All processes call it at once.
    """
    mesh = init_device_mesh(device.type, (world,))
    root = Root(model)
    for module in [*layers_of(model), root]:
        # The root's parameters are given up too: a state may be restored between two passes.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        assert isinstance(module, FSDPModule)  # noqa: S101
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it adds
    return root


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, in the memory of the machine. All processes ask; others than the first get nothing.

    One that is not sharded is given back as it is.
    """
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    full = tensor.full_tensor().detach()
    return full.cpu() if tensor.device_mesh.get_rank() == 0 else torch.empty(0)


def all_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, each as ``whole`` gives it."""
    return {name: whole(one) for name, one in tensors.items()}


def part(full: Tensor, parameter: Tensor) -> Tensor:
    """``full`` in the shape of ``parameter``, on its device: of a sharded one, the part that lies here."""
    full = full.to(parameter.device, parameter.dtype)
    if not isinstance(parameter, DTensor):
        return full
    # Every process has read the whole of it, so none has to be sent any.
    return distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None)


def over_all(number: Tensor) -> Tensor:
    """A number that may still be in parts, such as a norm, as all processes have it."""
    return number.full_tensor() if isinstance(number, DTensor) else number


def local(tensor: Tensor) -> Tensor:
    """What lies on this device of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def weights(model: Any, adapter: bool) -> dict[str, Tensor] | None:
    """The whole of a sharded model's state by name, of an adapter only its own; None where the model is not sharded.

    All processes ask; the others than the first get nothing. A tensor that has several names stays one.
    """
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    if not any(isinstance(one, DTensor) for one in state.values()):
        return None
    wanted = {name: one for name, one in state.items() if not adapter or one.requires_grad}
    found = {id(one): whole(one) for one in wanted.values()}
    return {name: found[id(one)] for name, one in wanted.items()}
