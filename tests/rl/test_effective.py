from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from rl.effective import derived, manifest, warnings
from rl.objectives import ObjectiveConfig

CONFIG: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)


def config(objective: str, **fields: Any) -> Any:
    return CONFIG.validate_python({"objective": objective, "optimizer": {"learning_rate": 1e-3}} | fields)


@pytest.mark.parametrize("objective", ["grpo", "gspo", "ppo", "reinforce_baseline", "cispo", "dapo", "rloo"])
def test_defaults_walk_into_no_trap(objective: str) -> None:
    assert warnings(config(objective), episodes=128, group_size=4) == []


def test_forty_updates_on_one_batch_are_too_many() -> None:
    (found,) = warnings(config("grpo", epochs=10, mini_batches=4))
    assert "epochs = 10 times mini_batches = 4 is 40 updates" in found
    assert warnings(config("grpo", epochs=2, mini_batches=4)) == []


def test_a_gspo_clip_that_never_binds() -> None:
    (found,) = warnings(config("gspo", clip_low=0.1, clip_high=0.1))
    assert found.startswith("clip width 0.1:")
    assert warnings(config("gspo", clip_low=0.01, clip_high=0.01)) == []
    assert warnings(config("grpo", clip_low=0.1, clip_high=0.1)) == []


def test_an_adaptive_kl_that_jumps() -> None:
    kl = {"target": 0.02, "horizon": 64}
    (found,) = warnings(config("grpo", kl=kl), episodes=128)
    assert found == ("kl.horizon = 64: 128 episodes move the coefficient by up to 40% a batch; set at least 85")
    assert warnings(config("grpo", kl=kl)) == []
    assert warnings(config("grpo", kl=kl | {"horizon": 256}), episodes=128) == []


def test_groups_of_few() -> None:
    (found,) = warnings(config("grpo"), group_size=3)
    assert found.startswith("groups of 3:")
    assert warnings(config("ppo"), group_size=1) == []


def test_estimators_out_of_place() -> None:
    assert "k1 in the loss" in warnings(config("grpo", kl={"estimator": "k1"}))[0]
    assert "k3 in the reward" in warnings(config("grpo", kl={"place": "reward"}))[0]
    assert warnings(config("grpo", kl={"estimator": "k2"})) == []
    assert warnings(config("ppo", kl={"estimator": "k1", "place": "reward"})) == []


def test_cispo_with_ppos_clip() -> None:
    assert warnings(config("cispo", clip_high=0.28))[0].startswith("clip_high = 0.28: CISPO cuts weights above 1.28")


def test_offline_objectives_have_no_such_traps() -> None:
    assert warnings(config("sft", steps=5), episodes=4, group_size=1) == []


def test_the_manifest_names_defaults_that_the_dump_leaves_out() -> None:
    one = config("grpo", mismatch={}, kl={})
    made = json.loads(json.dumps(manifest(one, episodes=128, group_size=2)))
    assert made["settings"]["dual_clip"] is None
    assert made["settings"]["lone"] == "zero"
    assert made["settings"]["optimizer"]["betas"] == [0.9, 0.98]
    assert made["settings"]["mismatch"] == {"mode": "tis", "low": 0.0, "high": 2.0}
    assert set(made["settings"]) == set(type(one).model_fields)
    assert len(made["warnings"]) == 1
    assert made["derived"] == {
        "baseline": "group_normalised",
        "ratio": "token",
        "loss_is_mean_over": "samples, then tokens",
        "on_policy_only": True,
        "reference_model": True,
        "updates_per_batch": 2,
        "old_logprobs": "recomputed",
        "ratio_bounds": [0.8, 1.28],
        "value_head": False,
        "kl": "k3 in the loss",
    }


def test_what_dpo_and_ppo_need_besides() -> None:
    assert derived(config("dpo", steps=5))["reference_model"] is True
    assert derived(config("sft", steps=5))["reference_model"] is False
    assert derived(config("ppo"))["value_head"] is True
    assert derived(config("ppo"))["kl"] == "none"
