from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rl.config import digest
from rl.objectives import OBJECTIVES, Cispo, Dapo, Grpo, Gspo, ObjectiveConfig, OnPolicy, Ppo

CONFIG: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)
BASE: dict[str, Any] = {"optimizer": {"learning_rate": 1e-3}}
NEEDED = {
    "sft": {"steps": 5},
    "weighted_sft": {"steps": 5},
    "dpo": {"steps": 5},
    "dr_grpo": {"max_tokens": 100},
}
NAMES = [one.model_fields["objective"].default for one in OBJECTIVES]


def config(objective: str, **fields: Any) -> Any:
    return CONFIG.validate_python(BASE | {"objective": objective} | NEEDED.get(objective, {}) | fields)


def refused(objective: str, **fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(objective, **fields)
    return str(caught.value)


def test_the_objectives() -> None:
    on_policy = ["grpo", "gspo", "ppo", "reinforce_baseline", "cispo", "dapo", "dr_grpo", "rloo"]
    assert [one.model_fields["objective"].default for one in OBJECTIVES if issubclass(one, OnPolicy)] == on_policy
    assert set(NAMES) - set(on_policy) == {"sft", "weighted_sft", "dpo"}


@pytest.mark.parametrize("objective", NAMES)
def test_the_smallest_config_survives_the_job_row(objective: str) -> None:
    one = config(objective)
    assert one.objective == objective
    assert CONFIG.validate_python(one.model_dump(mode="json")) == one
    with pytest.raises(ValidationError):
        one.seed = 3


def test_everything_set_survives_the_job_row() -> None:
    one = config(
        "grpo",
        kl={"target": 0.02, "horizon": 256},
        ptx={"coefficient": 0.13, "source": "jsonl:///curated"},
        overlong={"rule": "soft", "max_tokens": 1024, "buffer": 100},
        filter={},
        mismatch={},
        max_staleness=0,
        dual_clip=3,
        lone="pooled",
    )
    assert CONFIG.validate_json(one.model_dump_json()) == one


OPTIMIZER_JSON = (
    '"optimizer":{"learning_rate":0.001,"schedule":"constant","final_share":0.1,"warmup_steps":0,'
    '"weight_decay":0.0,"betas":[0.9,0.98],"gradient_clip":1.0}'
)
TRAIN_JSON = OPTIMIZER_JSON + ',"lora":null,"token_budget":3072,"seed":0'


def test_plain_grpo_and_sft_dump_what_jobs_are_known_by() -> None:
    """Another dump of the same work would be another job."""
    grpo = '"objective":"grpo","epochs":1,"mini_batches":2,"clip_low":0.2,"clip_high":0.28,"temperature":1.0'
    assert config("grpo").model_dump_json() == f"{{{TRAIN_JSON},{grpo}}}"
    sft = '"objective":"sft","steps":5,"batch_episodes":32,"observation_weight":0.0,"min_score":null'
    assert config("sft").model_dump_json() == f"{{{TRAIN_JSON},{sft}}}"
    assert digest(config("grpo")) == "a5de401014aba84698c80b745546515a8de3d4d11df667de4589f0adec0f1b34"
    assert digest(config("sft")) == "c6951bbd800f24bc0a91ef92df22d2506717d648893ab0ffb9cea0ba9f60a35e"


def test_clip_widths_are_the_papers() -> None:
    widths = {name: (one.clip_low, one.clip_high) for name in NAMES if isinstance(one := config(name), OnPolicy)}
    assert widths.pop("gspo") == (3e-4, 4e-4)
    assert widths.pop("cispo") == (1.0, 4.0)
    assert set(widths.values()) == {(0.2, 0.28)}


def test_dapo_filters_groups_unless_told_not_to() -> None:
    assert (config("dapo").filter.low, config("dapo").filter.high) == (0.0, 1.0)
    off = config("dapo", filter=None)
    assert CONFIG.validate_python(off.model_dump(mode="json")) == off


@pytest.mark.parametrize(
    ("objective", "field", "value", "readers"),
    [
        ("grpo", "gamma", 0.99, "ppo"),
        ("grpo", "value_learning_rate", 1e-4, "ppo"),
        ("sft", "clip_low", 0.2, "grpo, gspo, ppo"),
        ("cispo", "dual_clip", 3.0, "grpo, gspo"),
        ("ppo", "filter", {"low": 0, "high": 1}, "grpo"),
        ("grpo", "normalise_std", False, "reinforce_baseline"),
        ("dpo", "kl", {"coefficient": 0.1}, "grpo"),
        ("gspo", "max_tokens", 100, "dr_grpo"),
    ],
)
def test_a_setting_of_another_objective_is_refused(objective: str, field: str, value: object, readers: str) -> None:
    message = refused(objective, **{field: value})
    assert f"{field} = {value!r}: has no effect for {objective}; leave it out, or choose an objective" in message
    assert f"that reads it: {readers}" in message


def test_an_unknown_setting_is_refused_with_a_guess() -> None:
    assert "clip_hi = 0.3: no objective knows it; did you mean clip_high?" in refused("grpo", clip_hi=0.3)
    assert "zzz = 1: no objective knows it; leave it out" in refused("sft", zzz=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kl": {"target": 0.02}}, "kl.target = 0.02: has no effect without kl.horizon"),
        ({"kl": {"horizon": 256}}, "kl.horizon = 256.0: has no effect without kl.target"),
        ({"kl": {"coefficient": 0}}, "greater than 0"),
        ({"overlong": {"rule": "soft", "max_tokens": 10, "buffer": 11}}, "overlong.buffer = 11: set at most"),
        ({"overlong": {"rule": "stop_properly", "coefficient": 1}}, "overlong.coefficient = 1: has no effect"),
        ({"filter": {"low": 1, "high": 1}}, "filter.low = 1.0: keeps no group"),
        ({"mismatch": {"low": 3}}, "mismatch.low = 3.0: set less than mismatch.high = 2.0"),
        ({"ptx": {"coefficient": 0.13}}, "ptx.source"),
        ({"dual_clip": 1.0}, "greater than 1"),
        ({"max_staleness": -1}, "greater than or equal to 0"),
    ],
)
def test_a_part_that_cannot_have_an_effect_is_refused(fields: dict[str, Any], message: str) -> None:
    assert message in refused("grpo", **fields).replace("grpo.", "")


@pytest.mark.parametrize("objective", ["gspo", "rloo"])
def test_what_acts_on_tokens_has_no_place_where_samples_are_actions(objective: str) -> None:
    assert "kl.place = 'reward'" in refused(objective, kl={"place": "reward"})
    assert "mismatch.mode = 'tis'" in refused(objective, mismatch={})
    assert config(objective, mismatch={"mode": "sequence_mask", "low": 0.5}).mismatch.high == 2.0


def test_what_each_objective_does_with_its_data() -> None:
    assert [(one.baseline, one.ratio, one.aggregation) for one in (Grpo, Gspo, Ppo, Cispo, Dapo)] == [
        ("group_normalised", "token", "samples, then tokens"),
        ("group_normalised", "sequence mean", "samples"),
        ("gae", "token", "tokens"),
        ("group_normalised", "token", "tokens"),
        ("group_normalised", "token", "tokens"),
    ]
