from __future__ import annotations

from dataclasses import replace

import pytest

from rl.memory import GIB, Architecture, kept
from rl.memory_table import Table, Training, foreseen, table

SMALL = Architecture(layers=2, hidden=10, feed_forward=30, query=8, key=4, vocabulary=100)
QWEN3_14B = Architecture(layers=40, hidden=5120, feed_forward=17408, query=5120, key=1024, vocabulary=151936)
H200 = int(139 * GIB)

TRAINING = Training(
    architecture=SMALL,
    device="cpu",
    capacity=10**6,
    weights=1000,
    trained=40,
    optimizer=80,
    rank=3,
    width=4,
    token_budget=50,
    tokens=50,
    longest=20,
    layers=2,
    head_chunk=4 * 100 * 5,
)
LAYER = 900
"""What one layer of it keeps of a token: 128 for norms, 232 for inputs, 456 inside, 84 in the adapters."""


def test_a_table_by_hand() -> None:
    found = table(TRAINING, 7, 0)
    # two arrays of 5 rows of logits in float32, and 7 states twice
    assert found == Table(
        tokens=7,
        checkpointed=0,
        weights=1000,
        adapter=40,
        gradients=40,
        optimizer=80,
        activations=2 * 7 * LAYER,
        head=2 * 4 * 100 * 5 + 7 * 10 * 8,
        reference=0,
        held=0,
        capacity=10**6,
    )
    assert found.total == 1000 + 40 + 40 + 80 + 12_600 + 4_560


def test_a_checkpointed_layer_keeps_its_input() -> None:
    found = table(TRAINING, 7, 1)
    assert found.activations == 7 * LAYER + 7 * 4 * 10
    assert found.head == 4_560, "the other layer's activations are gone when this one is computed again"


def test_with_all_layers_checkpointed_one_is_there_after_the_logits_are_gone() -> None:
    assert (table(TRAINING, 7, 2).activations, table(TRAINING, 7, 2).head) == (2 * 7 * 4 * 10, 7 * LAYER)
    few_logits = replace(TRAINING, head_chunk=4)
    assert table(few_logits, 1, 2).head == max(LAYER, 2 * 4 * 100 + 80)


def test_trained_weights_are_no_adapter_and_their_head_has_a_gradient() -> None:
    found = table(replace(TRAINING, rank=None, trained=1000, optimizer=2000), 7, 0)
    assert (found.weights, found.adapter, found.gradients, found.optimizer) == (1000, 0, 1000, 2000)
    assert found.head == 4_560 + 4 * 100 * 10
    assert found.activations == 2 * 7 * kept(SMALL, 4, None)


def test_a_reference_pass_alternates_with_the_activations() -> None:
    found = table(replace(TRAINING, reference=True), 7, 0)
    # the feed-forward of one layer is 7 tokens of 4 (20 + 120); the logits are more
    assert found.reference == 4_560
    assert found.total == table(TRAINING, 7, 0).total
    wide = replace(TRAINING, reference=True, architecture=replace(SMALL, feed_forward=3000))
    assert table(wide, 7, 0).reference == 7 * 4 * (20 + 12_000)


def test_several_devices_divide_what_lasts_and_gather_some_of_it() -> None:
    found = table(replace(TRAINING, devices=3), 7, 0)
    assert (found.weights, found.adapter, found.gradients, found.optimizer) == (334, 14, 14, 27)
    assert (found.activations, found.head) == (2 * 7 * LAYER, 4_560), "each has bins of its own"
    # 2000 of embeddings and head; 1140 of a layer with 552 of its adapters, twice; gradients of those, twice
    assert found.gathered == 4 * 2000 + 2 * 4 * (1140 + 552) + 2 * 4 * 552
    assert found.total == 334 + 14 + 14 + 27 + found.gathered + 12_600 + 4_560
    assert dict(found.rows())["gathered from all devices"] == found.gathered
    full = table(replace(TRAINING, devices=3, rank=None, trained=1000, optimizer=2000), 7, 0)
    assert full.gathered == 4 * 2000 + 2 * 4 * 1140 + 2 * 4 * 1140 + 4 * 2000


def test_what_others_hold_counts_and_a_tenth_stays_free() -> None:
    total = table(TRAINING, 7, 0).total
    assert table(replace(TRAINING, capacity=-(-total * 10 // 9)), 7, 0).fits
    assert not table(replace(TRAINING, capacity=total * 10 // 9 - 1), 7, 0).fits
    assert table(replace(TRAINING, held=123), 7, 0).total == total + 123


def test_a_table_is_read_in_gibibytes() -> None:
    found = Table(4096, 8, 28 * GIB, 0, GIB // 2, GIB, 3 * GIB, GIB, 0, 0, 40 * GIB)
    assert str(found).splitlines() == [
        "    28.0 GiB  weights",
        "     0.5 GiB  gradients",
        "     1.0 GiB  optimizer",
        "     3.0 GiB  activations of 4,096 tokens, 8 layers computed again",
        "     1.0 GiB  logits, or one layer again",
        "    33.5 GiB  total",
        "    40.0 GiB  the device has (90% may be used)",
    ]


def qwen(rank: int | None, budget: int, cuda: bool = True) -> Training:
    return foreseen(
        QWEN3_14B, device="gpu", capacity=H200, cuda=cuda, rank=rank, token_budget=budget, longest=1, four_bits=True
    )


def test_fourteen_billion_parameters_from_their_widths_alone() -> None:
    found = table(qwen(16, 8192), 8192, 40)
    assert found.weights == pytest.approx(29.5e9, rel=2e-3)
    assert found.adapter + found.gradients + found.optimizer == pytest.approx(1.0e9, rel=0.03)
    assert found.activations / 8192 == 409_600, "0.41 MB a token with all layers checkpointed"
    assert found.head == 8192 * kept(QWEN3_14B, 2, 16), "and one layer"
    large = table(qwen(64, 8192), 8192, 40)
    assert large.adapter + large.gradients + large.optimizer == pytest.approx(4.1e9, rel=0.01)


def test_weights_that_are_trained_are_float32_everywhere() -> None:
    full = qwen(None, 8192)
    assert (full.weights, full.trained, full.optimizer) == tuple(n * QWEN3_14B.parameters for n in (4, 4, 8))
    assert (full.width, full.four_bits) == (4, None)
    on_cpu = qwen(16, 8192, cuda=False)
    assert (on_cpu.weights, on_cpu.width, on_cpu.four_bits) == (4 * QWEN3_14B.parameters, 4, None)
    assert qwen(16, 8192).four_bits == pytest.approx(9.9e9, rel=0.01)
