"""KL, values, curated data, weights and preferences, by hand."""

import math

import pytest
import torch

from gpu.objectives import (
    ValueHead,
    dpo,
    kl_estimate,
    kl_penalty,
    per_episode,
    preferred,
    ptx,
    sft,
    value_loss,
    weighted_sft,
)
from rl.kl import estimated
from rl.objective_parts import Estimator

D = torch.tensor([0.2, -0.2, 1.0, -3.0], dtype=torch.float64)
KL: dict[Estimator, list[float]] = {
    "k1": [0.2, -0.2, 1.0, -3.0],
    "k2": [0.02, 0.02, 0.5, 4.5],
    "k3": [0.0187307531, 0.0214027582, 0.3678794412, 10.0],
}
SAMPLE = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize("estimator", KL)
def test_kl_fixtures_here_and_in_numpy(estimator: Estimator) -> None:
    ref = torch.tensor([-1.0, -2.0, -0.5, -4.0], dtype=torch.float64)
    got = kl_estimate(ref + D, ref, estimator)
    assert got.tolist() == pytest.approx(KL[estimator], abs=1e-9)
    assert got.tolist() == pytest.approx(estimated((ref + D).numpy(), ref.numpy(), estimator).tolist(), abs=1e-12)


def test_gradients_of_the_estimators() -> None:
    for estimator, want in (("k1", [1.0] * 3), ("k2", [0.2, -0.2, 1.0]), ("k3", [1 - math.exp(-x) for x in D[:3]])):
        x = D.clone().requires_grad_()
        kl_estimate(x, torch.zeros(4), estimator).sum().backward()  # type: ignore[arg-type]
        assert x.grad is not None
        assert x.grad[:3].tolist() == pytest.approx(want)


def test_an_absurd_token_is_clamped_and_has_no_gradient() -> None:
    x = torch.tensor([-3.0, -900.0, 900.0], requires_grad=True)
    loss = kl_estimate(x, torch.zeros(3), "k3")
    loss.sum().backward()
    assert loss.tolist() == [10.0, 10.0, 10.0]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_the_penalty_is_a_mean_over_the_batchs_tokens() -> None:
    mean = sum(KL["k3"]) / 4
    assert kl_penalty(D, torch.zeros(4), "k3", 0.1).item() == pytest.approx(0.1 * mean)
    halves = [kl_penalty(D[one], torch.zeros(2), "k3", 0.1, 4) for one in (slice(0, 2), slice(2, 4))]
    assert sum(half.item() for half in halves) == pytest.approx(0.1 * mean)
    share = per_episode(torch.tensor([0, 1, 1, 1]), 2, torch.float64)
    want = (0.0187307531 + (0.0214027582 + 0.3678794412 + 10) / 3) / 2
    assert kl_penalty(D, torch.zeros(4), "k3", 1.0, share=share).item() == pytest.approx(want, abs=1e-9)


def test_values_start_at_zero_and_learn_in_fp32() -> None:
    head = ValueHead(8)
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert head(states).tolist() == [0.0] * 5
    value_loss(head(states), torch.zeros(5), torch.ones(5)).backward()
    grad = head.linear.weight.grad
    assert grad is not None
    torch.testing.assert_close(grad[0], -states.float().mean(0))


def test_the_value_loss_by_hand() -> None:
    value, old, returns = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 0.2], [0.0, 0.0], [2.0, 0.0]))
    assert value_loss(value, old, returns).item() == pytest.approx((1.0 + 0.04) / 4)
    # Held at .5, the first value is 1.5 off; the second may move by .2.
    assert value_loss(value, old, returns, value_clip=0.5).item() == pytest.approx((2.25 + 0.04) / 4)
    assert value_loss(value, old, returns, n_tokens=8, value_clip=0.5).item() == pytest.approx(2.29 / 16)


def test_a_value_past_its_clip_has_no_gradient() -> None:
    value = torch.tensor([1.0, 0.2], dtype=torch.float64, requires_grad=True)
    value_loss(value, torch.zeros(2), torch.tensor([2.0, 0.0]), value_clip=0.5).backward()
    assert value.grad is not None
    assert value.grad.tolist() == pytest.approx([0.0, 0.1])


def test_weights_of_one_are_plain_cloning() -> None:
    logp = -D.abs()
    ones = weighted_sft(logp, torch.ones(2, dtype=torch.float64), SAMPLE, 4)
    assert ones.item() == sft(logp, torch.ones(4), 4).item() == pytest.approx(1.1)


def test_a_weight_is_its_trajectorys() -> None:
    logp = -D.abs()
    got = weighted_sft(logp, torch.tensor([2.0, 0.5], dtype=torch.float64), SAMPLE, 4)
    assert got.item() == pytest.approx((2 * 0.4 + 0.5 * 4) / 4)


def test_ptx_is_a_share_of_the_likelihood() -> None:
    assert ptx(torch.tensor([-1.0, -2.0]), 4, 0.13).item() == pytest.approx(0.13 * 3 / 4)


def test_dpo_by_hand() -> None:
    logp = torch.tensor([-1.0, -1.0, -2.0, -2.5], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-1.5, -1.0, -2.0, -2.0], dtype=torch.float64)
    loss = dpo(logp, ref, SAMPLE, torch.tensor([0]), torch.tensor([1]), 0.1, 2)
    # The chosen one gained .5 and the rejected one lost .5.
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.1))) / 2)
    loss.backward()
    slope = 0.1 * (1 - 1 / (1 + math.exp(-0.1))) / 2
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-slope, -slope, slope, slope])
    assert preferred(logp, ref, SAMPLE, torch.tensor([0]), torch.tensor([1])).item() == 1
    assert preferred(logp, ref, SAMPLE, torch.tensor([1]), torch.tensor([0])).item() == 0


def test_no_pairs_no_loss() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert dpo(torch.zeros(0), torch.zeros(0), none, none, none, 0.1, 0).item() == 0.0
