"""Arithmetic of the training benchmark: ratios, peaks, operations a token, and the 14B part on a tiny model."""

from __future__ import annotations

import pytest
import torch

from bench.train_ratio import arithmetic, large, meter
from bench.train_ratio.model import QWEN3_14B, RANK, TINY, build

CPU = torch.device("cpu")

# peft still asks transformers for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_a_ratio_is_the_median_of_neighbours() -> None:
    ratio, (low, high) = meter.ratio([3.0, 8.0, 5.0], [1.0, 2.0, 5.0], 0)
    assert ratio == 3.0
    assert (low, high) == (1.0, 4.0)
    assert meter.ratio([2.0] * 7, [1.0] * 7, 0) == (2.0, [2.0, 2.0])


def test_arms_take_turns_after_a_round_that_does_not_count() -> None:
    turns: list[str] = []
    found = meter.interleaved({name: lambda name=name: turns.append(name) for name in "ab"}, CPU, 3)
    assert turns == ["a", "b"] * 4
    assert {name: len(took) for name, took in found.items()} == {"a": 3, "b": 3}


def test_seconds_are_those_of_the_processor() -> None:
    # Two seconds of waiting would be seen; what is computed here takes milliseconds.
    assert 0 < meter.seconds(lambda: sum(range(10_000)), CPU) < 1


def test_the_peak_is_what_is_held_at_once() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.ones(1000, 1000)

    def together() -> None:
        _ = [torch.ones(1000, 1000) for _ in range(3)]

    assert 4e6 <= meter.peak_bytes(one_after_another, CPU) < 4.1e6
    assert 12e6 <= meter.peak_bytes(together, CPU) < 12.1e6
    assert meter.peak_bytes(lambda: None, CPU) == 0


def test_parameters_are_those_of_the_model() -> None:
    body, head, adapters = arithmetic.parameters(TINY.architecture, RANK)
    model = build(TINY, 0, CPU)
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    assert body == sum(size for name, size in sizes.items() if "base_layer.weight" in name)
    assert adapters == sum(size for name, size in sizes.items() if "lora_" in name)
    assert head == sum(size for name, size in sizes.items() if "lm_head" in name)
    assert all(one.requires_grad == ("lora_" in name) for name, one in model.named_parameters())


def test_operations_of_qwen3_14b() -> None:
    body, head, adapters = arithmetic.parameters(QWEN3_14B.architecture, 16)
    assert (body / 1e9, head / 1e9, adapters / 1e6) == pytest.approx((13.21, 0.778, 64.2), rel=1e-3)
    whole = arithmetic.per_token(QWEN3_14B.architecture, 16, 4096, 1.0)
    assert (whole.forward / 1e9, whole.backward / 1e9) == pytest.approx((29.8, 32.4), rel=2e-3)
    quarter = arithmetic.per_token(QWEN3_14B.architecture, 16, 4096, 0.25)
    assert quarter.total / 1e9 == pytest.approx(59.9, rel=2e-3)


def test_the_large_part_on_a_tiny_model() -> None:
    scene = large.Scene(TINY, torch.float32, trajectories=4, length=64, budget=128, gemm=64)
    found = large.epoch(scene, CPU, 0)
    flops = arithmetic.per_token(TINY.architecture, RANK, 64, 0.25).total
    assert found["tokens_per_second"] == pytest.approx(4 * 64 / found["epoch_seconds"])
    assert found["utilisation"] == pytest.approx(found["tokens_per_second"] * flops / found["gemm_flops"])
    weights = sum(one.numel() * 4 for one in build(TINY, 0, CPU).parameters())
    assert weights < found["peak_bytes"] < 100 * weights


def test_exactness_in_sixteen_bits_is_measured_in_noise() -> None:
    found = large.exactness(TINY, CPU, torch.bfloat16, 0, 0.15)
    assert 0 < found["noise"] < 0.1
    assert found["error"] < 0.1
    assert found["error_in_noise"] == found["error"] / found["noise"]
