"""A config's loss is the one its name promises."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from gpu.objectives import (
    Terms,
    Whole,
    cispo,
    dr_grpo,
    grpo,
    gspo,
    kl_loss,
    kl_penalty,
    policy_loss,
    ppo_token_mean,
    rloo,
)
from rl.errors import InvalidInput
from rl.objectives import OBJECTIVES, ObjectiveConfig, OnPolicy

CONFIG: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)
DRAW = torch.Generator().manual_seed(5)
SAMPLE = torch.tensor([0, 0, 0, 2, 2, 3])
COUNTS = [3, 0, 2, 1]
PER_SAMPLE = torch.tensor([0.5, 0.0, -1.0, 0.7], dtype=torch.float64)
OLD = -torch.rand(6, generator=DRAW, dtype=torch.float64)
LOGP = OLD + 0.5 * torch.randn(6, generator=DRAW, dtype=torch.float64)
WEIGHT = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
REF = OLD - 0.1
TERMS = Terms(LOGP, OLD, PER_SAMPLE[SAMPLE], SAMPLE, REF, WEIGHT)
WHOLE = Whole.of(COUNTS)
EXPECTED = {
    "grpo": grpo(LOGP, OLD, TERMS.advantage, SAMPLE, 3, 0.2, 0.28, torch.tensor(COUNTS), 2.0, WEIGHT),
    "gspo": gspo(LOGP, OLD, PER_SAMPLE, SAMPLE, 3e-4, 4e-4, 3, 2.0, WEIGHT),
    "rloo": rloo(LOGP, OLD, PER_SAMPLE, SAMPLE, 0.2, 0.28, 3, 2.0, WEIGHT),
    "ppo": ppo_token_mean(LOGP, OLD, TERMS.advantage, 0.2, 0.28, 6, 2.0, WEIGHT),
    "reinforce_baseline": ppo_token_mean(LOGP, OLD, TERMS.advantage, 0.2, 0.28, 6, 2.0, WEIGHT),
    "dapo": ppo_token_mean(LOGP, OLD, TERMS.advantage, 0.2, 0.28, 6, 2.0, WEIGHT),
    "dr_grpo": dr_grpo(LOGP, OLD, TERMS.advantage, 3, 7, 0.2, 0.28, 2.0, WEIGHT),
    "cispo": cispo(LOGP, OLD, TERMS.advantage, 1.0, 4.0, 6, WEIGHT),
}


def config(objective: str, **fields: Any) -> Any:
    values = {"objective": objective, "optimizer": {"learning_rate": 1e-3}} | fields
    values |= {"max_tokens": 7} if objective == "dr_grpo" else {}
    return CONFIG.validate_python(values | ({} if objective == "cispo" else {"dual_clip": 2.0}))


def test_every_on_policy_objective_is_expected_here() -> None:
    names = {one.model_fields["objective"].default for one in OBJECTIVES if issubclass(one, OnPolicy)}
    assert names == set(EXPECTED)


@pytest.mark.parametrize("objective", EXPECTED)
def test_the_loss_of_a_config(objective: str) -> None:
    assert policy_loss(config(objective), TERMS, WHOLE).item() == EXPECTED[objective].item() != 0.0


@pytest.mark.parametrize("objective", EXPECTED)
def test_micro_batches_of_whole_samples_add_up(objective: str) -> None:
    parts = []
    for one in (slice(0, 3), slice(3, 6)):
        terms = Terms(LOGP[one], OLD[one], TERMS.advantage[one], SAMPLE[one], REF[one], WEIGHT[one])
        parts.append(policy_loss(config(objective), terms, WHOLE).item())
    assert sum(parts) == pytest.approx(EXPECTED[objective].item(), abs=1e-12)


def test_denominators_count_what_spoke() -> None:
    assert (WHOLE.n_tokens, WHOLE.n_samples, WHOLE.sample_tokens.tolist()) == (6, 3, COUNTS)


def test_kl_is_in_the_loss_only_where_the_config_puts_it() -> None:
    assert kl_loss(config("grpo"), TERMS, WHOLE, 0.1) is None
    assert kl_loss(config("grpo", kl={"place": "reward", "estimator": "k1"}), TERMS, WHOLE, 0.1) is None
    in_loss = kl_loss(config("grpo", kl={"coefficient": 0.1}), TERMS, WHOLE, 0.05)
    assert in_loss is not None
    assert in_loss.item() == kl_penalty(LOGP, REF, "k3", 0.05).item()


def test_kl_needs_the_reference() -> None:
    bare = Terms(LOGP, OLD, TERMS.advantage, SAMPLE)
    with pytest.raises(InvalidInput, match="ref_logp = None: score the tokens under the reference"):
        kl_loss(config("grpo", kl={}), bare, WHOLE, 0.1)


def test_an_objective_without_a_loss_is_an_error() -> None:
    class Other(OnPolicy):
        pass

    with pytest.raises(InvalidInput, match="objective = 'Other'"):
        policy_loss(Other(objective="other", optimizer=config("grpo").optimizer), TERMS, WHOLE)
