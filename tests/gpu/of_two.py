"""One of two processes of a training that looks at itself: ``python of_two.py RANK FOLDER WHAT ARGUMENTS...``.

Run as a script, because other processes cannot import tests. It fails where what it looks at is not so.
"""

import gc
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.multiprocessing.reductions import StorageWeakRef

from gpu.policy import Policy
from gpu.ranks import Ranks
from gpu.sharding import local
from gpu.states import States
from gpu.trainer import train
from rl.config import Lora
from rl.errors import InvalidInput
from rl.protocol import COMMANDS, TrainCommand

CPU = torch.device("cpu")
LORA = Lora(rank=3, alpha=8)


def keeps_its_part(policy: Policy, base: str) -> None:
    """A base in bfloat16 under an adapter in float32, as on a GPU: nothing keeps the whole of it alive."""
    Policy._dtype = torch.bfloat16  # type: ignore[assignment, method-assign]
    whole, _ = policy.trainable(base, None, LORA, seed=0)
    loss(whole).backward()  # type: ignore[no-untyped-call]
    expected = dict(whole.named_parameters())
    model, _ = policy.trainable(base, None, LORA, seed=0)
    assert not policy.holds(base)
    assert {(one.dtype, one.requires_grad) for one in model.parameters()} == {
        (torch.float32, True),
        (torch.bfloat16, False),
    }
    before = {name: StorageWeakRef(one.untyped_storage()) for name, one in model.named_parameters()}
    size = sum(one.nbytes for one in model.parameters())
    policy.ranks.shard(model, CPU)
    gc.collect()
    assert [name for name, one in before.items() if not one.expired()] == []
    assert 0.45 * size < sum(local(one).nbytes for one in model.parameters()) < 0.55 * size
    policy.ranks.run(model, loss).backward()  # type: ignore[no-untyped-call]
    for name, one in model.named_parameters():
        assert one.dtype == expected[name].dtype
        assert (one.grad is None) == (not one.requires_grad)
        if one.grad is not None:
            # Both processes have the same terms, and gradients are added up.
            torch.testing.assert_close(one.grad.full_tensor(), 2 * expected[name].grad, rtol=1e-6, atol=1e-9)


def refuses(policy: Policy, command: str) -> None:
    """Trains as the command says; the second process refuses the state. The first writes what it says to a file."""
    asked = COMMANDS.validate_json(command)
    assert isinstance(asked, TrainCommand)

    def refuse(*args: object) -> None:
        raise InvalidInput("resume", asked.resume, "its contents are not what was saved")

    if not policy.ranks.first:
        States.read = refuse  # type: ignore[assignment, method-assign]
    said: list[Any] = []
    train(asked, policy, said.append)
    if policy.ranks.first:
        Path(asked.out, "events").write_bytes(b"".join(event.line() for event in said))


def loss(model: Any) -> torch.Tensor:
    """A number that depends on all parameters."""
    logits = model(input_ids=torch.arange(1, 25).unsqueeze(0)).logits
    found: torch.Tensor = logits.float().log_softmax(-1)[..., 7].mean()
    return found


def main(rank: int, folder: str, what: str, *arguments: str) -> None:
    """Join the other process, and do ``what``."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    where = {"init_method": f"file://{folder}/meeting", "rank": rank, "world_size": 2}
    dist.init_process_group("cpu:gloo", timeout=timedelta(seconds=240), **where)
    {"keeps_its_part": keeps_its_part, "refuses": refuses}[what](Policy(CPU, ranks=Ranks(rank, 2)), *arguments)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
