"""Trainings over two processes come to what one process comes to, with the same data and seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu.policy import Policy
from rl.protocol import CheckpointWritten, DatasetRow
from tests.gpu.trainings import Run, manifest, scored_rows, steps, trained, weights, written

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LORA: dict[str, object] = {"lora": {"rank": 3, "alpha": 8}}
"""Three rows of a matrix do not divide evenly by two."""
KL: dict[str, object] = {"coefficient": 0.1, "target": 0.02, "horizon": 256}
PTX: dict[str, object] = {"coefficient": 0.5, "source": "jsonl:///curated.jsonl", "batch_episodes": 3}
SEVERAL_BINS: dict[str, object] = {"token_budget": 30, "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01}}
"""One sequence of the three of an episode in each: an odd number of bins where the episodes are odd."""

CASES: dict[str, tuple[str, dict[str, object]]] = {
    "ragged groups": ("grpo", {**LORA, **SEVERAL_BINS, "epochs": 2, "mini_batches": 2}),
    "value head": ("ppo", {**LORA, **SEVERAL_BINS, "mini_batches": 3, "kl": {**KL, "place": "reward"}}),
    "one ratio a sample, curated rows": (
        "gspo",
        {
            **LORA,
            "token_budget": 80,
            "mini_batches": 2,
            "kl": KL,
            "mismatch": {"mode": "sequence_mask"},
            "ptx": PTX,
            "optimizer": {"learning_rate": 3e-4},
        },
    ),
    "nothing for the second": ("dpo", {**LORA, "token_budget": 3000, "steps": 3, "batch_pairs": 1}),
}
CLONED: dict[str, object] = {**SEVERAL_BINS, "steps": 4, "batch_episodes": 5, "checkpointing": "all"}


@pytest.fixture
def run(base: Path, dataset: str, tmp_path: Path) -> Run:
    """Trains on one of two shares of a CPU, or on both where the config says ``devices = 2``."""
    return trained(Policy(CPU, devices=[CPU, CPU]), base, dataset, tmp_path)


@pytest.fixture
def ragged(policy: Policy, base: Path, write_rows: Callable[[Sequence[DatasetRow]], str]) -> str:
    """Groups of four, three and one."""
    rows = scored_rows(policy, base)
    return write_rows([*rows[:7], rows[7].model_copy(update={"group": "alone"})])


def optimizer(events: Sequence[Any]) -> dict[str, Tensor]:
    return load_file(written(events) / "optimizer.safetensors")


def distances(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[float, float]:
    """The norm of all differences relative to that of all numbers, and the largest difference.

    Tensor by tensor a fresh adapter's B would be measured by itself: all of it is a few steps of Adam, which takes
    whole steps also where a gradient is little more than rounding.
    """
    pairs = list(in_pairs(ours, theirs))
    apart = sum(float((one - two).square().sum()) for one, two in pairs) ** 0.5
    size = sum(float(two.square().sum()) for _, two in pairs) ** 0.5
    return apart / size, max(float((one - two).abs().max()) for one, two in pairs)


def largest_distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest norm of a tensor's difference, relative to that of the tensor."""
    return max(float((one - two).norm() / two.norm().clamp(min=1e-30)) for one, two in in_pairs(ours, theirs))


def in_pairs(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors of both, which have the same names, shapes and types."""
    assert {name: (one.shape, one.dtype) for name, one in ours.items()} == {
        name: (one.shape, one.dtype) for name, one in theirs.items()
    }
    return ((one.double(), theirs[name].double()) for name, one in ours.items())


def assert_equal(two: Sequence[Any], one: Sequence[Any]) -> None:
    """Weights and optimizer state of both to 1e-5, the metrics of their steps to a relative 1e-4."""
    assert max(distances(weights(two), weights(one))) <= 1e-5
    assert largest_distance(optimizer(two), optimizer(one)) <= 1e-5
    assert len(steps(two)) == len(steps(one)) > 1
    for ours, theirs in zip(steps(two), steps(one), strict=True):
        speeds = {"tokens_per_second", "eta_seconds", "memory_estimate_gib", "memory_capacity_gib"}
        assert ours.keys() == theirs.keys()
        same = {name: value for name, value in theirs.items() if name not in speeds}
        assert {name: ours[name] for name in same} == pytest.approx(same, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_come_to_what_one_does(run: Run, ragged: str, case: str) -> None:
    objective, config = CASES[case]
    rows = {"rows": ragged, "curated": ragged}
    one, two = run("one", objective, **rows, **config), run("two", objective, **rows, devices=2, **config)
    assert_equal(two, one)
    said = manifest(two)
    assert said["sharding"] == {"world_size": 2, "strategy": "fsdp2", "backend": "gloo"}
    assert "sharding" not in manifest(one)
    unlike = {"sharding", "memory", "config", "effective", "environment", "engine_gap"}
    assert {name: said[name] for name in said.keys() - unlike} == {
        name: value for name, value in manifest(one).items() if name not in unlike
    }


def test_full_weights_and_shared_prefixes(
    run: Run, write_rows: Callable[[Sequence[DatasetRow]], str], make_row: Callable[..., DatasetRow], base: Path
) -> None:
    rows = write_rows([make_row(i) for i in range(7)])
    one = run("one", "sft", rows=rows, **CLONED)
    two = run("two", "sft", rows=rows, devices=2, **CLONED)
    again = run("again", "sft", rows=rows, devices=2, **CLONED)
    assert manifest(two)["layout"]["name"] == "tree"
    assert manifest(two)["checkpointed_layers"] == 3
    assert_equal(two, one)
    first, second = ([event for event in of if isinstance(event, CheckpointWritten)] for of in (two, again))
    assert first[0].sha256 == second[0].sha256
    files = sorted(path.name for path in written(one).iterdir())
    assert sorted(path.name for path in written(two).iterdir()) == files
    assert (written(two) / "config.json").read_bytes() == (written(one) / "config.json").read_bytes()
    assert Policy(CPU).load("v", str(written(two))).kind == "full"


def test_a_version_of_two_devices_is_a_parent_for_one_and_the_other_way_round(run: Run, ragged: str) -> None:
    config = {**CASES["value head"][1], "rows": ragged}
    one, two = run("one", "ppo", **config), run("two", "ppo", devices=2, **config)
    child_of_two = run("child-of-two", "ppo", parent=str(written(two)), **config)
    child_of_one = run("child-of-one", "ppo", parent=str(written(one)), devices=2, **config)
    assert_equal(child_of_one, child_of_two)
    assert manifest(child_of_one)["step"] == 6
