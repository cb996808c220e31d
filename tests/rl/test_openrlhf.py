from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import LineConfig, RunConfig
from rl.errors import InvalidInput
from rl.openrlhf import Imported, imported
from rl.openrlhf_flags import DOTTED, KNOWN, MAPPED, PAIRS, REASONS, SWITCHES, canonical
from rl.pipeline import Pipeline

ESTIMATORS = ("gae", "reinforce", "rloo", "reinforce_baseline", "group_norm", "dr_grpo")
VALUES = {
    "advantage_estimator": "group_norm",
    "policy_loss_type": "gspo",
    "kl_estimator": "k2",
    "vllm_is_correction_type": "icepop",
    "pretrain": "org/model",
    "pretrain_data": "/srv/curated.jsonl",
    "lr_scheduler": "linear",
    "optim": "muon",
    "actor.optim": "muon",
    "gamma": "0.5",
    "lambd": "0.5",
    "eps_clip": "0.5",
    "stop_properly_penalty_coef": "0.5",
    "overlong_buffer_len": "100",
}


def ppo(flags: str, **options: Any) -> Imported:
    return imported(f"python3 -m openrlhf.cli.train_ppo_ray {flags}", "tried", **options)


def run(flags: str, **options: Any) -> RunConfig:
    found = ppo(flags, **options)
    assert found.kind == "run"
    return RunConfig.model_validate(tomllib.loads(found.toml))


def fates(found: Imported) -> dict[str, tuple[str, str]]:
    return {row.flag: (row.fate, row.why) for row in found.rows}


@pytest.mark.parametrize(
    ("flags", "objective"),
    [
        ("--advantage_estimator group_norm", "grpo"),
        ("--advantage_estimator group_norm --dynamic_filtering", "dapo"),
        ("--advantage_estimator group_norm --policy_loss_type gspo", "gspo"),
        ("--advantage_estimator rloo", "rloo"),
        ("--advantage_estimator reinforce_baseline", "reinforce_baseline"),
        ("--advantage_estimator reinforce", "reinforce_baseline"),
        ("--advantage_estimator dr_grpo", "dr_grpo"),
        ("--advantage_estimator gae", "ppo"),
        ("", "ppo"),
        ("--algo.advantage.estimator=rloo", "rloo"),
    ],
)
def test_estimators_become_objectives(flags: str, objective: str) -> None:
    assert run(flags).train.objective == objective


def test_batches_become_scenarios_episodes_and_updates() -> None:
    flags = "--rollout_batch_size 32 --n_samples_per_prompt 4 --train_batch_size 32 --max_epochs 10 --num_episodes 8"
    config = run(flags, rows=410)
    assert (config.rollout.scenarios, config.rollout.episodes) == (32, 4)
    assert (config.train.epochs, config.train.mini_batches) == (10, 4)
    # 410 prompts fill 12 batches of 32, eight times over; 3 % of 96 rounds of 40 updates, rounded up.
    assert (config.rounds, config.train.optimizer.warmup_steps) == (96, 116)
    assert run(f"{flags} --max_samples 70", rows=410).rounds == 16


def test_lone_samples_are_played_in_pairs() -> None:
    config = run("--rollout_batch_size 127 --n_samples_per_prompt 1")
    assert (config.rollout.scenarios, config.rollout.episodes) == (64, 2)


def test_a_micro_batch_of_the_longest_is_a_token_budget() -> None:
    assert run("--micro_train_batch_size 2 --prompt_max_len 4096 --generate_max_len 1024").train.token_budget == 10240
    assert run("--micro_train_batch_size 3 --max_len 2000").train.token_budget == 6000
    assert run("--use_dynamic_batch --micro_train_batch_size 3").train.token_budget == 16192
    assert run("").train.token_budget == 3072


@pytest.mark.parametrize(
    ("flags", "bounds"),
    [("", (0.2, 0.2)), ("--eps_clip 0.1", (0.1, 0.1)), ("--eps_clip_low_high 0.2 0.3 --eps_clip 0.1", (0.2, 0.3))],
)
def test_clips_come_in_pairs(flags: str, bounds: tuple[float, float]) -> None:
    config = run(flags).train
    assert (config.clip_low, config.clip_high) == bounds


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_kl_in_the_loss_keeps_its_estimator(estimator: str) -> None:
    kl = run(f"--use_kl_loss --kl_estimator {estimator} --init_kl_coef 1e-3").train.kl
    assert kl is not None
    assert (kl.estimator, kl.place, kl.coefficient, kl.target) == (estimator, "loss", 1e-3, None)


def test_a_kl_is_in_the_reward_by_default_and_needs_an_adapter() -> None:
    config = run("").train
    assert config.kl is not None
    assert (config.kl.estimator, config.kl.place, config.kl.coefficient) == ("k1", "reward", 0.01)
    assert config.lora is not None
    bare = run("--init_kl_coef 0").train
    assert (bare.kl, bare.lora) == (None, None)


@pytest.mark.parametrize("flags", ["--advantage_estimator rloo", "--policy_loss_type gspo"])
def test_one_ratio_a_sample_has_no_reward_a_token_for_a_kl(flags: str) -> None:
    kl = run(flags).train.kl
    assert kl is not None
    assert (kl.estimator, kl.place) == ("k2", "loss")


def test_an_adaptive_kl_keeps_target_and_horizon() -> None:
    kl = run("--kl_target 0.02 --kl_horizon 256").train.kl
    assert kl is not None
    assert (kl.target, kl.horizon) == (0.02, 256)


def test_adapters_and_what_needs_them() -> None:
    config = run("--lora_rank 64 --load_in_4bit").train
    assert config.lora is not None
    assert (config.lora.rank, config.lora.alpha, config.quantization) == (64, 16, "4bit")
    found = fates(ppo("--init_kl_coef 0 --lora_alpha 32 --load_in_4bit"))
    assert (found["--lora_alpha"][0], found["--load_in_4bit"][0]) == ("dead", "no counterpart")


def test_the_rest_of_an_objective() -> None:
    flags = (
        "--advantage_estimator group_norm --dual_clip 3 --temperature 0.7 --generate_max_len 512 --dynamic_filtering"
        " --dynamic_filtering_reward_range 0.1 0.9 --overlong_buffer_len 128 --enable_vllm_is_correction"
        " --vllm_is_truncated_threshold 3 --seed 7"
    )
    config = run(flags)
    dumped = config.train.model_dump()
    assert (dumped["dual_clip"], config.train.temperature, config.rollout.temperature) == (3.0, 0.7, 0.7)
    assert (config.rollout.max_tokens, config.train.seed) == (512, 7)
    assert dumped["filter"] == {"low": 0.1, "high": 0.9}
    assert dumped["overlong"] == {"rule": "soft", "max_tokens": 512, "buffer": 128, "factor": 1.0}
    assert dumped["mismatch"] == {"mode": "tis", "low": 0.0, "high": 3.0}


def test_a_value_head_has_its_own_settings() -> None:
    dumped = run("--gamma 0.99 --lambd 0.9 --value_clip 0.2 --critic_learning_rate 9e-6").train.model_dump()
    assert [dumped[key] for key in ("gamma", "gae_lambda", "value_clip", "value_learning_rate")] == [
        0.99,
        0.9,
        0.2,
        9e-6,
    ]


def test_curated_data_were_read_only_by_releases_that_had_a_flag_for_them() -> None:
    assert fates(ppo("--ptx_coef 0.13"))["--ptx_coef"][0] == "dead"
    ptx = run("--ptx_coef 0.13 --pretrain_data /srv/curated.jsonl --train_batch_size 16").train.ptx
    assert ptx is not None
    assert (ptx.coefficient, ptx.source, ptx.batch_episodes) == (0.13, "jsonl:///srv/curated.jsonl", 16)


@pytest.mark.parametrize(
    ("flags", "dead"),
    [
        ("--advantage_estimator group_norm --gamma 0.99", "--gamma"),
        ("--advantage_estimator rloo --critic_learning_rate 9e-6", "--critic_learning_rate"),
        ("--advantage_estimator rloo --critic.adam.lr 9e-6", "--critic.adam.lr"),
        ("--advantage_estimator reinforce --lambd 0.9", "--lambd"),
        ("--advantage_estimator dr_grpo --no_advantage_std_norm", "--no_advantage_std_norm"),
        ("--kl_horizon 100", "--kl_horizon"),
        ("--eps_clip 0.1 --eps_clip_low_high 0.1 0.2", "--eps_clip"),
        ("--init_kl_coef 0 --use_kl_loss", "--use_kl_loss"),
        ("--agent_func_path a.py --normalize_reward", "--normalize_reward"),
        ("--vllm_enable_sleep", "--vllm_enable_sleep"),
        ("--actor.muon.lr 0.1", "--actor.muon.lr"),
        ("--perf", "--perf"),
        ("--eval_temperature 0.5", "--eval_temperature"),
    ],
)
def test_what_had_no_effect_there_is_named(flags: str, dead: str) -> None:
    fate, why = fates(ppo(flags))[dead]
    assert fate == "dead"
    assert why


def test_an_unknown_flag_is_reported_with_the_nearest() -> None:
    found = ppo("--eps_clips 0.1 0.3 --gamma 1 --hf_token s3cret")
    assert not found.passed
    rows = {row.flag: row for row in found.rows}
    assert (rows["--eps_clips"].fate, rows["--eps_clips"].value) == ("unknown", "0.1 0.3")
    assert rows["--eps_clips"].why == "did you mean --eps_clip?"
    assert "s3cret" not in str(found.report())


def test_a_value_that_only_the_shell_knows_is_not_guessed() -> None:
    found = ppo("--actor_learning_rate $RATE --save_path $HOME/x")
    assert not found.passed
    assert fates(found)["--actor_learning_rate"] == (
        "unresolved",
        "RATE has no value in the script; give it with --set NAME=VALUE",
    )
    assert fates(found)["--save_path"][0] == "no counterpart"
    assert run("--actor_learning_rate $RATE", given={"RATE": "3e-7"}).train.optimizer.learning_rate == 3e-7


def test_flags_behind_a_missing_backslash_never_arrived() -> None:
    found = imported("python -m openrlhf.cli.train_ppo_ray --gamma 1\n  --eps_clip 0.3 \\\n --bf16", "tried")
    assert fates(found)["--eps_clip"][0] == fates(found)["--bf16"][0] == "dead"
    assert RunConfig.model_validate(tomllib.loads(found.toml)).train.clip_low == 0.2


def test_the_last_of_a_repeated_flag_counts() -> None:
    found = ppo("--eps_clip 0.3 --bf16 --bf16 --eps_clip 0.1")
    rows = {row.flag: row for row in found.rows}
    assert rows["--eps_clip"].keys == ("train.clip_low = 0.1", "train.clip_high = 0.1")
    assert "the last one counts" in rows["--eps_clip"].why
    assert "the last one" not in rows["--bf16"].why


def test_a_base_model_makes_a_pipeline() -> None:
    found = ppo("--pretrain org/model --lora_rank 8 --seed 3", environment="sat-small+abd-small")
    config = Pipeline.model_validate(tomllib.loads(found.toml))
    assert (config.model.base, config.seed, config.rl.train.seed) == ("org/model", 3, 3)
    assert config.rl.rollout.environment == config.held_out.environment == "sat-small+abd-small"
    assert config.sft.lora == config.rl.train.lora
    assert (config.sft.optimizer.learning_rate, config.rl.train.optimizer.learning_rate) == (2e-5, 1e-6)
    assert re.search(r"learning_rate = 2e-05 +# not in the script", found.toml)
    assert ppo("--pretrain org/model", plain=True).kind == "run"


def test_cloning_becomes_a_line() -> None:
    script = """read -r -d '' training_commands <<EOF
openrlhf.cli.train_sft --dataset /srv/logs.jsonl --max_len 2048 --train_batch_size 256 --micro_train_batch_size 2 \\
   --max_samples 5000 --pretrain /srv/models/base --max_epochs 2 --learning_rate 5e-6 --save_steps 10 --bf16
EOF
deepspeed --module $training_commands
"""
    found = imported(script, "tried", rows=9000)
    config = LineConfig.model_validate(tomllib.loads(found.toml))
    assert (found.kind, found.passed) == ("line", True)
    assert (config.base_model, config.source) == ("/srv/models/base", "jsonl:///srv/logs.jsonl")
    train = config.train
    assert train is not None
    assert train.objective == "sft"
    # 2 x 5000 rows in batches of 256, and 3 % of that.
    assert (train.steps, train.batch_episodes, train.optimizer.warmup_steps) == (40, 256, 2)
    assert (train.token_budget, train.checkpoint_every) == (4096, 10)
    assert (train.optimizer.schedule, train.optimizer.final_share) == ("cosine", 0.1)


def test_of_several_trainings_one_is_chosen() -> None:
    script = "python -m openrlhf.cli.train_sft\nsrun bash -c 'python -m openrlhf.cli.train_ppo_ray --seed 5'"
    assert [imported(script, "tried", nth=number).trainer for number in (1, 2)] == ["train_sft", "train_ppo_ray"]
    with pytest.raises(InvalidInput, match="the script starts 2"):
        imported(script, "tried", nth=3)


def test_every_flag_is_either_read_or_has_a_reason() -> None:
    assert not MAPPED & REASONS.keys()
    assert {canonical(name) for name in DOTTED} <= KNOWN
    assert SWITCHES | PAIRS <= KNOWN


@given(
    st.sampled_from(ESTIMATORS),
    st.sampled_from(["ppo", "gspo"]),
    st.lists(st.sampled_from(sorted(KNOWN | set(DOTTED))), max_size=12, unique_by=canonical),
)
def test_any_known_flags_make_a_config_that_loads(estimator: str, loss: str, names: list[str]) -> None:
    words = [f"--advantage_estimator {estimator} --policy_loss_type {loss}"]
    for name in names:
        known = canonical(name)
        assert known is not None
        if known not in ("advantage_estimator", "policy_loss_type"):
            value = "" if known in SWITCHES else "0.1 0.5" if known in PAIRS else VALUES.get(known, "2")
            words.append(f"--{name} {value}")
    found = ppo(" ".join(words))
    values = tomllib.loads(found.toml)
    config = Pipeline.model_validate(values).run() if found.kind == "pipeline" else RunConfig.model_validate(values)
    assert config.rounds >= 1
    assert found.passed
    assert all(row.keys or row.why for row in found.rows)
    assert len(found.rows) == len({canonical(word.split()[0][2:]) for word in words} | {"policy_loss_type"})
