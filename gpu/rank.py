"""One process of a training over several devices: carries out one command like the resident child, and exits.

``gpu.several`` starts it, and says which of them it is by torchrun's variables. Every step is shared with the others.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from datetime import timedelta

from gpu.child import Commands, Events, carry_out, die_with
from gpu.settings import checked
from rl.errors import ChildLost, StartError
from rl.protocol import Failed

COLLECTIVE_SECONDS = 1800.0
"""How long a process waits for the others. The first one writes whole checkpoints meanwhile."""


def main() -> None:
    """The command line."""
    args = _arguments()
    die_with(args.parent)
    try:
        here = checked()
    except StartError as error:
        sys.exit(f"gpu.rank: {error}")
    os.environ.setdefault("OMP_NUM_THREADS", str(here.torch_threads))
    commands, events = Commands(args.commands_fd), Events(args.events_fd)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the child is told to stop, and tells the first of us
    line = commands.next()
    if line is None:
        why = "told to stop before the training began"
        with contextlib.suppress(BrokenPipeError):
            events.emit(Failed(job=0, fence=0, error=ChildLost.__name__, message=why))
        sys.exit(f"gpu.rank: {why}")
    code = 0
    try:
        _join(args.device, here.torch_threads, line, commands, events)
    except BaseException:  # what the child says of it is the exit code
        code = 1
        with contextlib.suppress(OSError):
            traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # As the child: and what tears collectives down may wait for processes that are gone, or for a broken device.
    os._exit(code)


def _join(device: str, threads: int, line: bytes, commands: Commands, events: Events) -> None:
    import torch
    from torch import distributed as dist
    from transformers.utils.logging import disable_progress_bar

    from gpu.policy import Policy
    from gpu.ranks import BACKENDS, Ranks

    torch.set_num_threads(threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    on = torch.device(device)
    if on.type == "cuda":
        torch.cuda.set_device(on)
    types = dict.fromkeys(["cpu", on.type])  # what they agree on is on the CPU
    backends = ",".join(f"{one}:{BACKENDS[one]}" for one in types)
    dist.init_process_group(backends, timeout=timedelta(seconds=COLLECTIVE_SECONDS))
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    carry_out(line, Policy(on, ranks=ranks), commands, events)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpu.rank", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, or a CUDA device such as cuda:0")
    parser.add_argument("--commands-fd", type=int, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process that must stay alive")
    return parser.parse_args()


if __name__ == "__main__":
    main()
