from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidInput
from rl.memory import GIB, Architecture
from rl.memory_plan import MemoryPlan, plan, tighter
from rl.memory_table import USABLE, Training, foreseen, table
from rl.training import Checkpointing

SMALL = Architecture(layers=4, hidden=10, feed_forward=30, query=8, key=4, vocabulary=100)
QWEN3_14B = Architecture(layers=40, hidden=5120, feed_forward=17408, query=5120, key=1024, vocabulary=151936)

ROOMY = Training(
    architecture=SMALL,
    device="cuda:0",
    capacity=10**9,
    weights=50_000,
    trained=400,
    optimizer=800,
    rank=3,
    width=4,
    token_budget=100,
    tokens=80,
    longest=20,
    layers=4,
    head_chunk=4 * 100 * 5,
    four_bits=20_000,
)


def room_for(training: Training, tokens: int, checkpointed: int) -> Training:
    """A device on which exactly that fits."""
    return replace(training, capacity=int(table(training, tokens, checkpointed).total / USABLE) + 1)


def chosen(found: MemoryPlan) -> tuple[int, int, str | None]:
    return found.checkpointed_layers, found.token_budget, found.quantization


def test_nothing_is_computed_again_where_everything_fits() -> None:
    found = plan(ROOMY)
    assert (chosen(found), found.fits, found.reason) == ((0, 100, None), True, "everything fits")
    assert found.table == table(ROOMY, 80, 0)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_as_few_layers_as_possible_are_checkpointed(layers: int) -> None:
    found = plan(room_for(ROOMY, 80, layers))
    assert (chosen(found), found.fits) == ((layers, 100, None), True)
    assert found.reason == f"{layers} of 4 layers are checkpointed, the fewest that fit"


@pytest.mark.parametrize("tokens", [79, 40, 20])
def test_then_bins_are_made_smaller(tokens: int) -> None:
    found = plan(room_for(ROOMY, tokens, 4))
    assert (chosen(found), found.fits) == ((4, tokens, None), True)
    assert found.reason == f"bins of 80 tokens do not fit, of {tokens} they do; 4 of 4 layers are checkpointed"


def test_then_the_base_is_kept_in_four_bits_and_all_is_tried_again() -> None:
    heavy = replace(ROOMY, weights=200_000)
    tight = replace(heavy, capacity=room_for(heavy, 20, 4).capacity - 10)
    found = plan(tight)
    needed = table(replace(tight, weights=20_000), 80, 2)
    assert (found.quantization, found.token_budget, found.table) == ("4bit", 100, needed)
    assert found.reason == "2 of 4 layers are checkpointed, the base is in four bits, the fewest that fit"
    assert not plan(replace(tight, four_bits=None)).fits
    assert plan(replace(tight, four_bits=220_000)).quantization is None, "the base that stays would be there twice"


def test_what_cannot_fit_is_told_with_the_table_and_remedies() -> None:
    found = plan(replace(ROOMY, capacity=10_000, four_bits=None))
    assert (chosen(found), found.fits, found.table.tokens) == ((4, 20, None), False, 20)
    first, *rest = found.refusal().splitlines()
    assert first == (
        "training needs about 0.0 GiB, and cuda:0 has 0.0 GiB: keep the base in four bits (quantization = 4bit), or "
        "train on shorter sequences, or use a device with more memory"
    )
    assert "\n".join(rest) == str(found.table)
    full = plan(replace(ROOMY, capacity=10_000, rank=None, four_bits=None))
    assert "GiB: train an adapter (lora), or train on" in full.refusal()
    pinned = plan(replace(ROOMY, capacity=10_000, four_bits=None), "none")
    assert "or let all layers be checkpointed (checkpointing = auto), or" in pinned.refusal()
    on_cpu = plan(replace(ROOMY, capacity=10_000, four_bits=None, device="cpu"))
    assert "cpu has 0.0 GiB: train on shorter" in on_cpu.refusal()
    in_four = plan(replace(ROOMY, capacity=10_000, four_bits=None, quantization="4bit"))
    assert "cuda:0 has 0.0 GiB: train on shorter" in in_four.refusal()


@pytest.mark.parametrize(("asked", "layers"), [("none", 0), ("all", 4), (1, 1), (3, 3)])
def test_a_config_may_name_the_layers(asked: Checkpointing, layers: int) -> None:
    found = plan(ROOMY, asked)
    assert (chosen(found), found.deepest) == ((layers, 100, None), layers)
    assert found.reason == f"{layers} of 4 layers are checkpointed, as the config says"
    tight = plan(replace(room_for(ROOMY, 30, layers), four_bits=None), asked)
    assert (chosen(tight), tight.fits) == ((layers, 30, None), True)


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"config\.checkpointing = 5: the model has 4 layers"):
        plan(ROOMY, 5)


def test_a_model_that_cannot_be_checkpointed_gets_smaller_bins() -> None:
    fixed = replace(ROOMY, layers=0, four_bits=None)
    assert chosen(plan(room_for(fixed, 33, 0))) == (0, 33, None)


def test_a_sequence_longer_than_the_budget_leaves_the_budget_alone() -> None:
    long = replace(ROOMY, token_budget=10, tokens=20, longest=20)
    assert chosen(plan(room_for(long, 20, 2))) == (2, 10, None)
    assert plan(replace(long, capacity=1000, four_bits=None)).token_budget == 10


@given(
    capacity=st.integers(1, 400_000),
    tokens=st.integers(20, 200),
    layers=st.sampled_from([0, 2, 4]),
    four_bits=st.sampled_from([None, 20_000]),
)
def test_the_plan_is_the_first_choice_that_fits(capacity: int, tokens: int, layers: int, four_bits: int | None) -> None:
    training = replace(ROOMY, capacity=capacity, tokens=tokens, token_budget=tokens, layers=layers, four_bits=four_bits)
    found = plan(training)
    choices = [
        (bits, size, depth)
        for bits in ([False, True] if four_bits else [False])
        for size, depth in [
            *((tokens, depth) for depth in range(layers + 1)),
            *((size, layers) for size in range(tokens - 1, 19, -1)),
        ]
    ]
    weights = {False: training.weights, True: four_bits or 0}
    fitting = next((c for c in choices if table(replace(training, weights=weights[c[0]]), c[1], c[2]).fits), None)
    assert found.fits == (fitting is not None)
    if fitting is not None:
        assert (found.quantization == "4bit", found.table.tokens, found.checkpointed_layers) == fitting


def test_after_memory_ran_out_bins_are_halved_and_then_all_layers_checkpointed() -> None:
    steps: list[tuple[int, int]] = []
    now: MemoryPlan | None = plan(ROOMY)
    while now is not None and len(steps) < 10:
        now = tighter(now, min(now.token_budget, 80), 20)
        steps += [(now.token_budget, now.checkpointed_layers)] if now else []
        assert now is None or (now.table.tokens, now.table.checkpointed) == steps[-1]
    assert steps == [(40, 0), (20, 0), (20, 4)]


def test_after_memory_ran_out_the_config_still_says_how_many_layers() -> None:
    assert tighter(plan(ROOMY, 1), 20, 20) is None
    halved = tighter(plan(ROOMY, 1), 80, 20)
    assert halved is not None
    assert (halved.checkpointed_layers, halved.reason) == (1, "memory ran out with 80 tokens in a bin")


def test_a_plan_in_the_manifest_and_in_progress() -> None:
    found = plan(room_for(ROOMY, 80, 2))
    said = found.manifest()
    assert {name: said[name] for name in ("checkpointed_layers", "layers", "token_budget", "quantization")} == {
        "checkpointed_layers": 2,
        "layers": 4,
        "token_budget": 100,
        "quantization": None,
    }
    sizes = said["bytes"]
    assert isinstance(sizes, dict)
    assert (sizes["weights"], sizes["total"]) == (50_000, found.table.total)
    big = plan(replace(ROOMY, weights=3 * GIB, capacity=8 * GIB))
    metrics = big.metrics()
    assert metrics["memory_estimate_gib"] == pytest.approx(3.0, abs=0.01)
    assert (metrics["memory_capacity_gib"], metrics["checkpointed_layers"]) == (8.0, 0.0)


@pytest.mark.parametrize(
    ("budget", "longest", "gibibytes", "choice"),
    [
        (4096, 4096, 139, (0, None)),
        (8192, 4096, 139, (8, None)),
        (32_768, 4096, 139, (33, None)),
        (8192, 4096, 80, (27, None)),
        (8192, 4096, 24, (38, "4bit")),
    ],
)
def test_fourteen_billion_parameters_on_devices_of_several_sizes(
    budget: int, longest: int, gibibytes: int, choice: tuple[int, str | None]
) -> None:
    """By hand, for 8,192 tokens on 80 GiB: 77.31 GB may be used, 30.56 are weights, adapter, gradients, moments,
    and 1.33 the head; 45.42 GB are 5.545 MB a token, 15.501 are kept without checkpointing, and a layer less is 0.3773.
    """
    training = foreseen(
        QWEN3_14B,
        device="gpu",
        capacity=gibibytes * GIB,
        cuda=True,
        rank=16,
        token_budget=budget,
        longest=longest,
        four_bits=True,
    )
    found = plan(training)
    assert (found.checkpointed_layers, found.quantization) == choice
    assert (found.fits, found.token_budget) == (True, budget)
