"""Objectives against published fixtures, and their gradients against finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpu.objectives import clipped, drift, grpo, gspo, ppo_token_mean, sft

A = 0.8660254
D = torch.tensor([0.1, 0.2, 0.3, -0.2, -0.1], dtype=torch.float64)
OLD = torch.tensor([-1.0, -0.5, -2.0, -0.3, -0.7], dtype=torch.float64)
SEQUENCE = torch.tensor([0, 0, 0, 1, 1])
PER_TOKEN = torch.tensor([A, A, A, -A, -A], dtype=torch.float64)
PER_SEQUENCE = torch.tensor([A, -A], dtype=torch.float64)


def assert_gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> None:
    x = at.clone().requires_grad_()
    loss(x).backward()
    assert x.grad is not None
    for i in range(len(at)):
        step = torch.zeros_like(at)
        step[i] = 1e-6
        numeric = (loss(at + step) - loss(at - step)) / 2e-6
        assert x.grad[i].item() == pytest.approx(numeric.item(), abs=1e-7)


def test_gspo_fixtures() -> None:
    for epsilon, want in ((0.1, -0.0866025), (0.2, -0.1469178), (3e-4, -0.0002598)):
        assert gspo(OLD + D, OLD, PER_SEQUENCE, SEQUENCE, epsilon, epsilon).item() == pytest.approx(want, abs=1e-6)


def test_gspo_fixtures_of_each_sequence() -> None:
    log_ratio = torch.tensor([0.2, -0.15], dtype=torch.float64)
    assert log_ratio.exp().tolist() == pytest.approx([1.2214028, 0.8607080], abs=1e-7)
    for epsilon, want in ((0.1, [-0.9526279, 0.7794229]), (0.2, [-1.0392305, 0.7453950])):
        got = clipped(log_ratio, torch.zeros(2), PER_SEQUENCE, epsilon, epsilon)
        assert got.tolist() == pytest.approx(want, abs=1e-6)


def test_gspo_leaves_out_a_sequence_without_tokens() -> None:
    with_empty = torch.tensor([A, -A, 3.0], dtype=torch.float64)
    assert gspo(OLD + D, OLD, with_empty, SEQUENCE, 0.1, 0.1).item() == pytest.approx(-0.0866025, abs=1e-6)


def test_ppo_token_mean_fixture() -> None:
    assert ppo_token_mean(OLD + D, OLD, PER_TOKEN, 0.2, 0.2).item() == pytest.approx(-0.3085826, abs=1e-6)


def test_grpo_averages_tokens_then_episodes() -> None:
    first = -A * (math.exp(0.1) + 1.2 + 1.2) / 3
    second = A * (math.exp(-0.2) + math.exp(-0.1)) / 2
    got = grpo(OLD + D, OLD, PER_TOKEN, SEQUENCE, 2, 0.2, 0.2)
    assert got.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_grpo_of_micro_batches_adds_up() -> None:
    whole = grpo(OLD + D, OLD, PER_TOKEN, SEQUENCE, 2, 0.2, 0.28)
    counts = torch.bincount(SEQUENCE)
    parts = [
        grpo((OLD + D)[s], OLD[s], PER_TOKEN[s], SEQUENCE[s], 2, 0.2, 0.28, counts)
        for s in (slice(0, 1), slice(1, 4), slice(4, 5))
    ]
    assert sum(p.item() for p in parts) == pytest.approx(whole.item(), abs=1e-12)


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    logp = OLD.clone().requires_grad_()
    grpo(logp, OLD, PER_TOKEN, SEQUENCE, 2, 0.2, 0.28).backward()
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, torch.tensor([-A / 6] * 3 + [A / 4] * 2, dtype=torch.float64))


def test_a_clipped_token_has_no_gradient() -> None:
    logp = (OLD + D).requires_grad_()
    grpo(logp, OLD, PER_TOKEN, SEQUENCE, 2, 0.15, 0.15).backward()
    assert logp.grad is not None
    assert logp.grad[1:4].tolist() == [0.0, 0.0, 0.0]
    assert logp.grad[0].item() == pytest.approx(-A * math.exp(0.1) / 6)


def test_gradients_match_finite_differences() -> None:
    assert_gradient(lambda x: grpo(x, OLD, PER_TOKEN, SEQUENCE, 2, 0.25, 0.28), OLD + D)
    assert_gradient(lambda x: gspo(x, OLD, PER_SEQUENCE, SEQUENCE, 0.15, 0.25), OLD + D)
    assert_gradient(lambda x: ppo_token_mean(x, OLD, PER_TOKEN, 0.25, 0.28), OLD + D)
    spoken = torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)
    assert_gradient(lambda x: sft(x, spoken, 3, 2, 0.5), OLD)


def test_sft_weighs_observed_tokens() -> None:
    spoken = torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)
    assert sft(OLD, spoken, 3).item() == pytest.approx((1.0 + 2.0 + 0.7) / 3)
    assert sft(OLD, spoken, 3, 2, 0.5).item() == pytest.approx(3.7 / 3 + 0.5 * (0.5 + 0.3) / 2)


def test_drift_counts_what_the_clip_held_back() -> None:
    kl, held = drift(OLD + D, OLD, PER_TOKEN, 0.15, 0.15)
    assert kl.item() == pytest.approx(-0.3)
    assert held.item() == 3
