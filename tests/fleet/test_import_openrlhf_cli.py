from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet.cli import app
from fleet.files import read_toml
from rl.errors import InvalidInput
from rl.pipeline import Pipeline

SCRIPT = """#!/bin/bash
set -x
export PATH="$(dirname "$0")/.venv/bin:$PATH"
MODEL="Qwen/Qwen3-4B"
EPOCHS=${EPOCHS:-10}
OUT=ckpt/$MODEL-gspo   # where it goes
touch ran-after-all

ray job submit --address="http://127.0.0.1:8265" \\
   --runtime-env-json='{"working_dir": "/srv/agent"}' \\
   -- python3 -m openrlhf.cli.train_ppo_ray \\
   --ref_num_nodes 1 --ref_num_gpus_per_node 8 --actor_num_nodes 1 --actor_num_gpus_per_node 8 \\
   --vllm_num_engines 2 --vllm_tensor_parallel_size 4 --vllm_gpu_memory_utilization 0.30 --colocate_all_models \\
   --init_kl_coef 0.1 --kl_target 0.02 --kl_horizon 256 --use_kl_loss --kl_estimator k3 \\
   --ptx_coef 0.13 --gamma 0.99 --policy_loss_type gspo --eps_clip 0.1 \\
   --pretrain ${MODEL} --agent_func_path training/agent_func.py --save_path $OUT --ckpt_path $OUT \\
   --advantage_estimator group_norm --save_steps 1 --save_hf_ckpt \\
   --micro_train_batch_size 2 --train_batch_size 32 \\
   --micro_rollout_batch_size 2 --rollout_batch_size 32 --n_samples_per_prompt 4 \\
   --max_epochs $EPOCHS --num_episodes 8 \\
   --prompt_max_len 4096 --max_samples 100000 --generate_max_len 1024 \\
   --zero_stage 3 --bf16 --actor_learning_rate 1e-6 --critic_learning_rate 5e-6 \\
   --prompt_data json@data/openrlhf --input_key context_messages --label_key label --apply_chat_template \\
   --gradient_checkpointing --packing_samples --vllm_sync_backend nccl --enforce_eager \\
   --vllm_enable_sleep --deepspeed_enable_sleep --flash_attn --use_liger_kernel \\
   --use_wandb 0123456789abcdef --wandb_project memory 2>&1 | tee train.log
"""
DEAD = {"--ptx_coef", "--gamma", "--critic_learning_rate"}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "Train Agent.sh"
    path.write_text(SCRIPT)
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["import-openrlhf", *map(str, arguments)])


def test_a_whole_script_becomes_a_pipeline(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "pipeline.toml"
    ended = invoke(script, "--out", out, "--environment", "memory", "--rows", "400", "--json")
    found = json.loads(ended.stdout)
    assert (ended.exit_code, found["schema"], found["passed"], found["kind"]) == (0, 1, True, "pipeline")
    assert found["out"] == str(out)
    fates = {flag["flag"]: flag for flag in found["flags"]}
    assert {name for name, flag in fates.items() if flag["fate"] == "dead"} == DEAD
    assert fates["--eps_clip"]["keys"] == ["rl.train.clip_low = 0.1", "rl.train.clip_high = 0.1"]
    assert len(fates) == SCRIPT.count(" --") - 3  # ray's own three are not the training's
    assert [trap.split(":")[0] for trap in found["traps"]] == [
        "epochs = 10 times mini_batches = 4 is 40 updates on one batch; more than 8 learn from a policy that is gone",
        "clip width 0.1",
    ]
    config = read_toml(out, Pipeline)
    run = config.run()
    assert (config.name, config.seed, config.model.base) == ("train-agent", 42, "Qwen/Qwen3-4B")
    # 400 prompts fill 12 batches of 32, 8 times; a micro batch of two sequences of 4096 + 1024 tokens.
    assert (run.rounds, run.rollout.scenarios, run.rollout.episodes, run.rollout.max_tokens) == (96, 32, 4, 1024)
    assert (run.train.objective, run.train.epochs, run.train.mini_batches) == ("gspo", 10, 4)
    assert run.train.token_budget == 10240
    assert run.train.optimizer.learning_rate == 1e-6
    assert run.train.kl is not None
    assert run.train.kl.model_dump() == {
        "estimator": "k3",
        "place": "loss",
        "coefficient": 0.1,
        "target": 0.02,
        "horizon": 256.0,
    }
    assert not (script.parent / "ran-after-all").exists()
    assert not Path("ran-after-all").exists()


def test_people_get_the_file_on_stdout_and_what_became_of_flags_on_stderr(script: Path) -> None:
    ended = invoke(script)
    assert ended.exit_code == 0
    assert tomllib.loads(ended.stdout)["environment"] == "name-an-environment"
    assert 'base = "Qwen/Qwen3-4B"' in ended.stdout
    assert "# from --pretrain Qwen/Qwen3-4B" in ended.stdout
    for words in ("had no effect there (3)", "to be set by you", "known traps in this config", "give --rows"):
        assert words in ended.stderr
    assert "0123456789abcdef" not in ended.output


def test_the_table_is_on_stdout_where_the_file_is_elsewhere(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.toml"
    ended = invoke(script, "--out", out)
    assert "mapped (" in ended.stdout
    assert f"rlfleet run {out}" in ended.stdout
    before = out.read_text()
    again = invoke(script, "--out", out)
    assert isinstance(again.exception, InvalidInput)
    assert out.read_text() == before


def test_unknown_flags_and_values_end_with_1(tmp_path: Path) -> None:
    script = tmp_path / "x.sh"
    script.write_text("python -m openrlhf.cli.train_ppo_ray --actor_learning_rate $RATE")
    assert invoke(script).exit_code == 1
    assert invoke(script, "--set", "RATE=1e-6").exit_code == 0
    script.write_text("python -m openrlhf.cli.train_ppo_ray --clip_eps 0.1")
    ended = invoke(script)
    assert ended.exit_code == 1
    assert "did you mean --eps_clip?" in ended.stderr


@pytest.mark.parametrize("arguments", [("absent.sh",), ("absent.sh", "--set", "RATE")])
def test_what_cannot_be_read_is_refused(arguments: tuple[str, ...]) -> None:
    assert isinstance(invoke(*arguments).exception, InvalidInput)


def test_a_command_line_comes_from_stdin() -> None:
    line = "python -m openrlhf.cli.train_sft --pretrain /srv/models/base --dataset /srv/a.jsonl"
    ended = CliRunner().invoke(app, ["import-openrlhf", "-", "--rows", "64", "--json"], input=line)
    found = json.loads(ended.stdout)
    assert (found["kind"], found["trainer"]) == ("line", "train_sft")
    assert tomllib.loads(found["toml"])["train"]["steps"] == 1  # 2 x 64 rows in batches of 128
