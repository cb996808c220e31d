"""``docs/objectives.md``: its formulas, run, are what trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpu import objectives as ours
from gpu.objectives import Terms, Whole
from rl import advantages, kl, mismatch, overlong, returns
from rl.objectives import OBJECTIVES, OnPolicy
from rl.offline import exponential_weights
from rl.training import Optimizer

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
CHANCE = np.random.default_rng(7)
TOKENS, SAMPLES = 60, 6
LP, OLD, REF, ENGINE = (CHANCE.normal(-1.5, 0.5, TOKENS) for _ in range(4))
I = np.concatenate([np.arange(SAMPLES), CHANCE.integers(0, SAMPLES, TOKENS - SAMPLES)])  # noqa: E741 - as on the page
EACH = CHANCE.normal(0, 1, SAMPLES)
R = CHANCE.normal(0, 1, SAMPLES)
ONE_GROUP = ["a"] * SAMPLES
NEEDED: dict[str, dict[str, object]] = {"dr_grpo": {"max_tokens": 20}}
NAMES = {"dapo": "token_mean", "ppo": "token_mean", "reinforce_baseline": "token_mean"}
ON_POLICY = {str(one.model_fields["objective"].default): one for one in OBJECTIVES if issubclass(one, OnPolicy)}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page defines."""
    found: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), found)  # noqa: S102 - our own page
    return found


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize("name", ["group_normalised", "centred", "leave_one_out"])
def test_an_advantage(page: dict[str, Any], name: str) -> None:
    assert page[name](R) == pytest.approx(getattr(advantages, name)(R, ONE_GROUP), abs=1e-12)


def test_whitened_advantages(page: dict[str, Any]) -> None:
    assert page["whitened"](EACH[I]) == pytest.approx(advantages.whitened(EACH[I]), abs=1e-12)


def test_advantages_that_are_whitened_beside_a_constant_group(page: dict[str, Any]) -> None:
    scores = R.copy()
    scores[4:] = 0.3
    centred = np.concatenate([page["centred"](scores[:4]), np.zeros(SAMPLES - 4)])
    told = advantages.batch_normalised(scores, ["a"] * 4 + ["b"] * (SAMPLES - 4), np.bincount(I))
    assert page["batch_normalised"](centred[I], I < 4) == pytest.approx(told[I], abs=1e-12)
    assert page["whitened"](centred[I]) != pytest.approx(told[I], abs=1e-3), "the constant group takes no part"
    alone = advantages.batch_normalised(R, ONE_GROUP, np.bincount(I))
    assert page["batch_normalised"](page["centred"](R)[I], I >= 0) == pytest.approx(alone[I], abs=1e-12)


def test_generalised_advantages(page: dict[str, Any]) -> None:
    advantage, target = returns.gae(LP, OLD, np.zeros(TOKENS, dtype=int), 0.9, 0.8)
    assert page["gae"](LP, OLD, 0.9, 0.8) == pytest.approx(advantage, abs=1e-12)
    assert advantage + OLD == pytest.approx(target, abs=1e-12)


@pytest.mark.parametrize("dual", [None, 1.5])
@pytest.mark.parametrize("name", sorted(ON_POLICY))
def test_the_loss_of_an_objective_on_policy(page: dict[str, Any], name: str, dual: float | None) -> None:
    kind, needed = ON_POLICY[name], NEEDED.get(name, {})
    more = needed | ({"dual_clip": dual} if "dual_clip" in kind.model_fields else {})
    config = kind(optimizer=Optimizer(learning_rate=1e-3), **more)
    terms = Terms(_tensor(LP), _tensor(OLD), _tensor(EACH[I]), _tensor(I))
    loss = ours.policy_loss(config, terms, Whole.of(list(np.bincount(I))))
    words = {"dual": dual} if "dual_clip" in more else {}
    told = page[NAMES.get(name, name)](LP, OLD, EACH[I], I, config.clip_low, config.clip_high, **needed, **words)
    assert told == pytest.approx(loss.item(), abs=1e-9)


def test_the_losses_of_anybodys_data(page: dict[str, Any]) -> None:
    spoken = (I % 2).astype(float)
    loss = ours.sft(_tensor(LP), _tensor(spoken), int(spoken.sum()), int((1 - spoken).sum()), 0.5)
    assert page["sft"](LP, spoken, 0.5) == pytest.approx(loss.item(), abs=1e-12)
    weight = exponential_weights(R, ONE_GROUP, 0.7, 3.0)
    loss = ours.weighted_sft(_tensor(LP), _tensor(weight), _tensor(I), TOKENS)
    assert page["weighted_sft"](LP, page["centred"](R)[I], I, 0.7, 3.0) == pytest.approx(loss.item(), abs=1e-12)
    chosen, rejected = np.array([0, 2]), np.array([1, 5])
    loss = ours.dpo(_tensor(LP), _tensor(REF), _tensor(I), _tensor(chosen), _tensor(rejected), 0.1, 2)
    assert page["dpo"](LP, REF, I, chosen, rejected, 0.1) == pytest.approx(loss.item(), abs=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl(page: dict[str, Any], estimator: Any) -> None:
    assert page["kl"](LP, 9 * REF, estimator) == pytest.approx(kl.estimated(LP, 9 * REF, estimator), abs=1e-9)


def test_what_stands_beside_them(page: dict[str, Any]) -> None:
    assert page["adapted"](0.1, 0.03, 16, 0.02, 100) == pytest.approx(kl.adapted(0.1, 0.03, 16, 0.02, 100))
    loss = ours.value_loss(_tensor(LP), _tensor(OLD), _tensor(REF), TOKENS, 0.5)
    assert page["value"](LP, OLD, REF, 0.5) == pytest.approx(loss.item(), abs=1e-12)
    for mode in ("tis", "icepop"):
        told = mismatch.weights(OLD, ENGINE, I, mode, 0.5, 2.0)  # type: ignore[arg-type]
        assert page["mismatch"](OLD, ENGINE, mode, 0.5, 2.0) == pytest.approx(told, abs=1e-12)
    tokens = np.arange(40, 40 + 10 * SAMPLES, 10)
    told = R + overlong.soft_penalty(tokens, 80, 30, 0.5)
    assert page["soft_overlong"](R, tokens, 80, 30, 0.5) == pytest.approx(told, abs=1e-12)


def test_every_objective_is_on_the_page() -> None:
    names = [str(one.model_fields["objective"].default) for one in OBJECTIVES]
    assert [name for name in names if not re.search(rf"\b{name}\b", PAGE)] == []
