"""``rlfleet memory``: what a training will need of a device, from a model's config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fleet.terminal import AsJson, say
from rl.errors import InvalidInput
from rl.memory import GIB, Architecture, architecture_of
from rl.memory_plan import MemoryPlan, plan
from rl.memory_table import foreseen
from rl.training import Train

BUDGET: int = Train.model_fields["token_budget"].default


def memory(
    base: Annotated[Path, typer.Option(help="a model's folder, or its config.json")],
    lora_rank: Annotated[int, typer.Option(min=0, help="rank of the adapters; 0 trains the weights themselves")] = 16,
    token_budget: Annotated[int, typer.Option(min=1, help="tokens that are computed at once")] = BUDGET,
    longest: Annotated[int | None, typer.Option(min=1, help="tokens of the longest sequence  [the budget]")] = None,
    device_gib: Annotated[float, typer.Option(min=0.001, help="memory of the device")] = 139.0,
    devices: Annotated[int, typer.Option(min=1, help="devices of that size that share it")] = 1,
    cpu: Annotated[bool, typer.Option("--cpu", help="the device is a CPU")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="with a KL from the base")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a training holds on a device, and how it is made to fit. Exit code 1 when it cannot."""
    training = foreseen(
        read_architecture(base),
        device="cpu" if cpu else "gpu",
        capacity=int(device_gib * GIB),
        cuda=not cpu,
        rank=lora_rank or None,
        token_budget=token_budget,
        longest=longest or token_budget,
        reference=reference,
        four_bits=True,
        devices=devices,
    )
    show(plan(training), as_json=as_json)


def read_architecture(base: Path) -> Architecture:
    """The widths of the model whose folder or config.json is at ``base``.

    Raises:
        InvalidInput: there is no config, or it does not name them.
    """
    file = base / "config.json" if base.is_dir() else base
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput("base", str(base), f"name a model's folder or its config.json: {error}") from None
    if not isinstance(config, dict):
        raise InvalidInput("base", str(base), "name a model's folder or its config.json: this is no JSON object")
    return architecture_of(config)


def show(found: MemoryPlan, *, as_json: bool) -> None:
    """Print the plan.

    Raises:
        typer.Exit: always, with 0 if and only if the plan fits.
    """
    if as_json:
        typer.echo(json.dumps({"schema": 1, "fits": found.fits, **found.manifest()}))
    else:
        say(found.table)
        say(f"{'fits' if found.fits else 'does not fit'}: {found.reason}")
        say(f"token budget {found.token_budget}, checkpointed layers {found.checkpointed_layers}")
    raise typer.Exit(0 if found.fits else 1)
