"""The policy losses' variants by hand, their gradients against finite differences, and sums over micro-batches."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpu.objectives import cispo, clipped, dr_grpo, grpo, gspo, ppo_token_mean, rloo

A = 0.8660254
D = torch.tensor([0.1, 0.2, 0.3, -0.2, -0.1], dtype=torch.float64)
OLD = torch.tensor([-1.0, -0.5, -2.0, -0.3, -0.7], dtype=torch.float64)
SAMPLE = torch.tensor([0, 0, 0, 1, 1])
PER_TOKEN = torch.tensor([A, A, A, -A, -A], dtype=torch.float64)
PER_SAMPLE = torch.tensor([A, -A], dtype=torch.float64)
HALVES = (slice(0, 3), slice(3, 5))

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From log-probabilities, old ones, token advantages and samples, with the whole batch's denominators."""
COUNTS = torch.tensor([3, 2])
LOSSES: dict[str, Loss] = {
    "grpo": lambda lp, old, a, s: grpo(lp, old, a, s, 2, 0.25, 0.28, COUNTS),
    "token mean": lambda lp, old, a, s: ppo_token_mean(lp, old, a, 0.25, 0.28, 5),
    "dual clip": lambda lp, old, a, s: ppo_token_mean(lp, old, a, 0.25, 0.28, 5, dual_clip=1.5),
    "dr_grpo": lambda lp, old, a, s: dr_grpo(lp, old, a, 2, 8, 0.25, 0.28),
    "gspo": lambda lp, old, a, s: gspo(lp, old, PER_SAMPLE, s, 0.15, 0.25, 2),
    "rloo": lambda lp, old, a, s: rloo(lp, old, PER_SAMPLE, s, 0.5, 1.0, 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_match_finite_differences(name: str) -> None:
    x = (OLD + D).requires_grad_()
    LOSSES[name](x, OLD, PER_TOKEN, SAMPLE).backward()
    assert x.grad is not None
    for i in range(len(D)):
        step = torch.zeros_like(D)
        step[i] = 1e-6
        up, down = (LOSSES[name](OLD + D + sign * step, OLD, PER_TOKEN, SAMPLE) for sign in (1, -1))
        assert x.grad[i].item() == pytest.approx(((up - down) / 2e-6).item(), abs=1e-7)


@pytest.mark.parametrize("name", [*LOSSES, "cispo"])
def test_micro_batches_add_up(name: str) -> None:
    losses = LOSSES | {"cispo": lambda lp, old, a, s: cispo(lp, old, a, 1.0, 0.1, 5)}
    whole = losses[name](OLD + D, OLD, PER_TOKEN, SAMPLE)
    parts = [losses[name]((OLD + D)[one], OLD[one], PER_TOKEN[one], SAMPLE[one]) for one in HALVES]
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), abs=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, "cispo"])
def test_no_advantage_no_loss_and_no_gradient(name: str) -> None:
    losses: dict[str, Loss] = LOSSES | {
        "cispo": lambda lp, old, a, s: cispo(lp, old, a, 1.0, 0.1, 5),
        "gspo": lambda lp, old, a, s: gspo(lp, old, torch.zeros(2), s, 0.15, 0.25, 2),
        "rloo": lambda lp, old, a, s: rloo(lp, old, torch.zeros(2), s, 0.5, 1.0, 2),
    }
    x = (OLD + D).requires_grad_()
    loss = losses[name](x, OLD, torch.zeros_like(OLD), SAMPLE)
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None
    assert x.grad.tolist() == [0.0] * 5


def test_dual_clip_bounds_what_a_bad_token_costs() -> None:
    rho = torch.tensor([4.0, 4.0, 1.5, 0.5], dtype=torch.float64)
    advantage = torch.tensor([-2.0, 2.0, -2.0, -2.0], dtype=torch.float64)
    single = clipped(rho.log(), torch.zeros_like(rho), advantage, 0.2, 0.2)
    torch.testing.assert_close(single, torch.tensor([8.0, -2.4, 3.0, 1.6], dtype=torch.float64))
    dual = clipped(rho.log(), torch.zeros_like(rho), advantage, 0.2, 0.2, dual_clip=3.0)
    torch.testing.assert_close(dual, torch.tensor([6.0, -2.4, 3.0, 1.6], dtype=torch.float64))


def test_an_absurd_ratio_is_finite() -> None:
    x = torch.tensor([500.0], dtype=torch.float64, requires_grad=True)
    loss = clipped(x, torch.zeros(1), torch.tensor([-1.0]), 0.2, 0.2).sum()
    assert loss.item() == pytest.approx(math.exp(20))


def test_dr_grpo_divides_by_a_constant() -> None:
    total = -A * (math.exp(0.1) + 1.2 + 1.2) + A * (math.exp(-0.2) + math.exp(-0.1))
    assert dr_grpo(OLD + D, OLD, PER_TOKEN, 2, 10, 0.2, 0.2).item() == pytest.approx(total / 20, abs=1e-7)


def test_cispo_keeps_a_clipped_tokens_gradient() -> None:
    logp = (OLD + D).requires_grad_()
    cispo(logp, OLD, PER_TOKEN, 1.0, 0.15, 5).backward()
    want = [-A * math.exp(0.1) / 5, -A * 1.15 / 5, -A * 1.15 / 5, A * math.exp(-0.2) / 5, A * math.exp(-0.1) / 5]
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx(want, abs=1e-12)


def test_cispo_by_hand() -> None:
    want = -A * (math.exp(0.1) * -0.9 + 1.15 * -0.3 + 1.15 * -1.7) / 5
    want += A * (math.exp(-0.2) * -0.5 + math.exp(-0.1) * -0.8) / 5
    assert cispo(OLD + D, OLD, PER_TOKEN, 1.0, 0.15).item() == pytest.approx(want, abs=1e-12)


def test_rloo_takes_a_sample_as_one_action() -> None:
    want = (-A * 1.5 + A * math.exp(-0.3)) / 2
    assert rloo(OLD + D, OLD, PER_SAMPLE, SAMPLE, 0.5, 0.5).item() == pytest.approx(want, abs=1e-7)


def test_rloo_on_policy_has_the_gradient_of_reinforce() -> None:
    logp = OLD.clone().requires_grad_()
    rloo(logp, OLD, PER_SAMPLE, SAMPLE, 0.2, 0.2).backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-A / 2] * 3 + [A / 2] * 2)


def test_a_weight_multiplies_its_terms_loss() -> None:
    weight = torch.tensor([2.0, 0.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    each = clipped(OLD + D, OLD, PER_TOKEN, 0.2, 0.28)
    assert ppo_token_mean(OLD + D, OLD, PER_TOKEN, 0.2, 0.28, weight=weight).item() == pytest.approx(
        (each * weight).sum().item() / 5
    )
    assert grpo(OLD + D, OLD, PER_TOKEN, SAMPLE, 2, 0.2, 0.28, weight=weight).item() == pytest.approx(
        ((each * weight)[:3].sum() / 3 + (each * weight)[3:].sum() / 2).item() / 2
    )


def test_a_dropped_sample_leaves_the_others_share() -> None:
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    got = gspo(OLD + D, OLD, PER_SAMPLE, SAMPLE, 0.1, 0.1, weight=weight)
    assert got.item() == pytest.approx(-0.9526279 / 2, abs=1e-6)


def test_a_token_of_two_samples_is_two_terms() -> None:
    shared = torch.tensor([-1.0, -0.5], dtype=torch.float64, requires_grad=True)
    index, sample = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
    advantage = torch.tensor([1.0, 1.0, -3.0], dtype=torch.float64)
    old = shared.detach()[index]
    grpo(shared[index], old, advantage, sample, 2, 0.2, 0.2).backward()
    assert shared.grad is not None
    assert shared.grad.tolist() == pytest.approx([-1 / 4 + 3 / 2, -1 / 4])
