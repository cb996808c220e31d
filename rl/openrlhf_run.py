"""What ``train_ppo_ray``'s flags come to as a run: scenarios, episodes, updates, the model and the optimizer.

The framework's defaults are those of v0.8.9; ``rl/openrlhf_objective.py`` has the objective.
"""

from __future__ import annotations

import math

from rl.openrlhf_draft import Draft
from rl.openrlhf_objective import map_objective

ROUNDS = 100
"""Rounds where nobody said how many prompts the data has."""
JUDGED = 300
"""Scenarios to choose on, and as many to decide on."""
DEMONSTRATED = 1000
"""Scenarios that are demonstrated before the first round."""
CLONING_RATE = 2e-5
"""Of SFT: a rate of RL, such as 1e-6, would learn nothing of the demonstrations."""
PLACEHOLDER = "name-an-environment"
NO_CLIP = 1e9
"""Longer than gradients are."""
ADAPTER = (16, 32)
"""Rank and alpha of an adapter that a KL needs and the script does not have."""


def map_run(draft: Draft, name: str, environment: str | None, rows: int | None, *, whole: bool) -> None:
    """Fill ``draft`` with a pipeline where it is to be ``whole``, else with a plain run.

    ``rows`` is how many prompts the data has.

    Raises:
        InvalidInput: a flag has a value that the framework would refuse.
    """
    prefix = "rl." if whole else ""
    train = f"{prefix}train."
    draft.put("name", name)
    _put_seed(draft, "seed" if whole else f"{train}seed")
    _put_environment(draft, "environment" if whole else "rollout.environment", environment)
    if whole:
        draft.put("model.base", draft.text("pretrain"), "pretrain")
    rounds = _put_rounds(draft, f"{prefix}rounds", rows)
    _put_rollout(draft, f"{prefix}rollout.")
    map_objective(draft, train)
    updates = _put_updates(draft, train)
    _put_memory(draft, train)
    put_optimizer(draft, f"{train}optimizer.", "actor_learning_rate", 1e-6)
    _put_schedule(draft, f"{train}optimizer.", rounds * updates)
    _put_adapter(draft, train)
    _put_judged(draft, "validation", None if whole else environment)
    _put_judged(draft, "held_out", None if whole else environment)
    if whole:
        _put_cloning(draft)
    else:
        draft.drop("a run goes on from the line's stable version: base_model of the line's file", "pretrain")
    draft.drop("every round makes a version", "save_steps")


def _put_seed(draft: Draft, key: str) -> None:
    draft.put(key, draft.whole("seed", 42, least=0), "seed")


def _put_environment(draft: Draft, key: str, environment: str | None) -> None:
    asked = "" if environment else "no flag says it: write the name of an environment that deals such scenarios"
    draft.put(key, environment or PLACEHOLDER, remark=asked)


def _put_rounds(draft: Draft, key: str, rows: int | None) -> int:
    """A round is one batch of prompts; what does not fill a batch is left out, as the framework's loader does."""
    batch = draft.whole("rollout_batch_size", 1024)
    passes = draft.whole("num_episodes", 1)
    if rows is None:
        rounds, remark = ROUNDS, "how many prompts the data has is not in the script: give --rows"
        draft.put(key, rounds, "num_episodes", remark=remark)
        draft.drop(remark, "max_samples")
        return rounds
    prompts = min(rows, draft.whole("max_samples", rows))
    rounds = max(1, passes * (prompts // batch))
    remark = f"{passes} x {prompts} prompts / {batch}"
    draft.put(key, rounds, "num_episodes", "max_samples", "rollout_batch_size", remark=remark)
    return rounds


def _put_rollout(draft: Draft, prefix: str) -> None:
    scenarios, episodes = draft.whole("rollout_batch_size", 1024), draft.whole("n_samples_per_prompt", 1)
    remark = ""
    if episodes == 1:
        scenarios, episodes = math.ceil(scenarios / 2), 2
        remark = "half the scenarios twice: a group is 2 episodes or more"
    draft.put(f"{prefix}scenarios", scenarios, "rollout_batch_size", remark=remark)
    draft.put(f"{prefix}episodes", episodes, "n_samples_per_prompt", remark=remark)
    draft.put(f"{prefix}temperature", draft.number("temperature", 1.0), "temperature")
    flag = length_flag(draft)
    remark = "of one answer, where the framework counts all turns of an episode" if draft.has("agent_func_path") else ""
    draft.put(f"{prefix}max_tokens", draft.whole(flag, 1024), flag, remark=remark)


def length_flag(draft: Draft) -> str:
    """The flag that bounds what is spoken: its name differs between releases."""
    return "max_new_tokens" if draft.has("max_new_tokens") else "generate_max_len"


def _put_updates(draft: Draft, train: str) -> int:
    """Passes and updates a pass; returns updates a round."""
    samples = draft.whole("rollout_batch_size", 1024) * draft.whole("n_samples_per_prompt", 1)
    batch, epochs = draft.whole("train_batch_size", 128), draft.whole("max_epochs", 1)
    pieces = max(1, samples // batch)
    remark = f"{samples} episodes / {batch}"
    draft.put(f"{train}epochs", epochs, "max_epochs")
    draft.put(f"{train}mini_batches", pieces, "train_batch_size", remark=remark)
    return epochs * pieces


def _put_memory(draft: Draft, train: str) -> None:
    """A micro batch of so many sequences of the greatest length is as many tokens at once."""
    key = f"{train}token_budget"
    if draft.has("use_dynamic_batch"):
        budget = draft.whole("train_max_tokens_per_gpu", 16192)
        draft.put(key, budget, "use_dynamic_batch", "train_max_tokens_per_gpu")
        draft.drop("micro batches are made by tokens: train.token_budget", "micro_train_batch_size")
    elif draft.has("micro_train_batch_size"):
        micro = draft.whole("micro_train_batch_size", 4)
        names = ("max_len",) if draft.has("max_len") else ("prompt_max_len", length_flag(draft))
        longest = sum(draft.whole(name, 1024) for name in names)
        draft.put(key, micro * longest, "micro_train_batch_size", *names, remark=f"{micro} x {longest} tokens")
    draft.drop("train.token_budget and the engine's context bound it", "max_len")


def put_optimizer(draft: Draft, prefix: str, rate: str, default: float) -> None:
    """AdamW's settings; those that are the same there and here by default are left out."""
    draft.put(f"{prefix}learning_rate", draft.number(rate, default), rate)
    draft.put(f"{prefix}betas", list(draft.pair("adam_betas", (0.9, 0.95))), "adam_betas")
    if draft.has("l2"):
        draft.put(f"{prefix}weight_decay", draft.number("l2", 0.0), "l2")
    if draft.has("max_norm"):
        norm = draft.number("max_norm", 1.0)
        remark = "" if norm > 0 else "nothing is clipped there; no gradient is so long"
        draft.put(f"{prefix}gradient_clip", norm if norm > 0 else NO_CLIP, "max_norm", remark=remark)


def _put_schedule(draft: Draft, prefix: str, steps: int) -> None:
    """A rate that falls over all of a run has no counterpart: each round is a training of its own."""
    warmup = math.ceil(draft.number("lr_warmup_ratio", 0.03) * steps)
    draft.put(f"{prefix}warmup_steps", warmup, "lr_warmup_ratio", remark=f"of {steps} updates")
    why = "a schedule spans one training, which is a round: the rate stays, and does not fall over all rounds"
    draft.put(f"{prefix}schedule", "constant", "lr_scheduler", remark=why)
    draft.drop(why, "min_lr_ratio")


def _put_adapter(draft: Draft, train: str) -> None:
    rank = draft.whole("lora_rank", 0, least=0)
    if rank:
        put_lora(draft, train, rank)
        return
    draft.drop("a base in four bits needs an adapter: give --lora_rank", "load_in_4bit")
    if any(key.startswith(f"{train}kl.") for key in draft.values):
        remark = "a KL needs a base without its adapter; adapters take a higher rate than full weights"
        draft.put(f"{train}lora.rank", ADAPTER[0], "lora_rank", remark=remark)
        draft.put(f"{train}lora.alpha", ADAPTER[1])


def put_lora(draft: Draft, train: str, rank: int) -> None:
    """The adapter, and the frozen base in four bits where it was."""
    draft.put(f"{train}lora.rank", rank, "lora_rank")
    draft.put(f"{train}lora.alpha", draft.whole("lora_alpha", 16), "lora_alpha")
    if draft.has("load_in_4bit"):
        draft.put(f"{train}quantization", "4bit", "load_in_4bit")


def _put_judged(draft: Draft, table: str, environment: str | None) -> None:
    plain = "environment" not in draft.values
    if plain:
        _put_environment(draft, f"{table}.environment", environment)
        draft.put(f"{table}.split", table)
    draft.put(f"{table}.count", JUDGED)
    if table == "held_out" or "eval_dataset" not in draft.flags:
        return
    samples, temperature = draft.whole("eval_n_samples_per_prompt", 4), draft.number("eval_temperature", 0.6)
    if samples > 1 and temperature > 0:
        draft.put(f"{table}.samples", samples, "eval_n_samples_per_prompt")
        draft.put(f"{table}.temperature", temperature, "eval_temperature")
        return
    draft.drop("one sample is greedy: [validation] plays each scenario once", "eval_n_samples_per_prompt")
    draft.drop("one sample is greedy: [validation] plays each scenario once", "eval_temperature")


def _put_cloning(draft: Draft) -> None:
    """A pipeline's first version, which no flag of the script speaks of."""
    why = "not in the script: a run starts from a version, and the environment's demonstrations make the first"
    draft.put("demonstrations.scenarios", DEMONSTRATED, remark=why)
    draft.put("sft.epochs", 1, remark="not in the script")
    draft.put("sft.optimizer.learning_rate", CLONING_RATE, remark="not in the script")
    for name in ("rank", "alpha"):
        if f"rl.train.lora.{name}" in draft.values:
            draft.put(f"sft.lora.{name}", draft.values[f"rl.train.lora.{name}"], remark="as rl.train")
    if "rl.train.token_budget" in draft.values:
        draft.put("sft.token_budget", draft.values["rl.train.token_budget"], remark="as rl.train")
