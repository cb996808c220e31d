"""What ``train_sft``'s flags come to as a line: its base model, its source, and how it clones what is there."""

from __future__ import annotations

import math

from rl.openrlhf_dead import ONLY_WITH, kill_optimizer
from rl.openrlhf_draft import Draft
from rl.openrlhf_objective import source_url
from rl.openrlhf_run import put_lora, put_optimizer

STEPS = 1000
"""Updates where nobody said how many rows the data has."""
PLACEHOLDER = "/srv/models/name-a-model"

SCHEDULES = {
    "cosine_with_min_lr": "cosine",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
"""Schedules with a counterpart; the others become a cosine."""


def map_sft(draft: Draft, rows: int | None) -> None:
    """Fill ``draft`` with a line; ``rows`` is how many the data has.

    Raises:
        InvalidInput: a flag has a value that the framework would refuse.
    """
    kill_optimizer(draft)
    if "use_wandb" not in draft.flags:
        draft.kill("it is read only with --use_wandb", *ONLY_WITH["use_wandb"].split())
    draft.put("base_model", draft.text("pretrain", PLACEHOLDER), "pretrain", remark="a folder")
    url, remark = source_url(draft.text("dataset", "data"))
    draft.put("source", url, "dataset", remark=remark)
    draft.put("automatic", False, remark="one training, on what is asked for")
    draft.put("train.objective", "sft")
    batch = draft.whole("train_batch_size", 128)
    steps = _put_steps(draft, rows, batch)
    draft.put("train.batch_episodes", batch, "train_batch_size")
    if draft.has("micro_train_batch_size"):
        micro, longest = draft.whole("micro_train_batch_size", 8), draft.whole("max_len", 2048)
        names = ("micro_train_batch_size", "max_len")
        draft.put("train.token_budget", micro * longest, *names, remark=f"{micro} x {longest} tokens")
    draft.drop("train.token_budget bounds it", "max_len")
    if draft.whole("save_steps", -1, least=None) > 0:
        draft.put("train.checkpoint_every", draft.whole("save_steps", -1), "save_steps")
    draft.drop("a checkpoint is written after the last update", "save_steps")
    draft.put("train.seed", draft.whole("seed", 42, least=0), "seed")
    put_optimizer(draft, "train.optimizer.", "learning_rate", 5e-6)
    _put_schedule(draft, steps)
    rank = draft.whole("lora_rank", 0, least=0)
    if rank:
        put_lora(draft, "train.", rank)


def _put_steps(draft: Draft, rows: int | None, batch: int) -> int:
    if rows is None:
        remark = "how many rows the data has is not in the script: give --rows"
        draft.put("train.steps", STEPS, "max_epochs", remark=remark)
        draft.drop(remark, "max_samples")
        return STEPS
    epochs, used = draft.whole("max_epochs", 2), min(rows, draft.whole("max_samples", rows))
    steps = math.ceil(epochs * used / batch)
    remark = f"{epochs} x {used} rows / {batch}"
    draft.put("train.steps", steps, "max_epochs", "max_samples", "train_batch_size", remark=remark)
    return steps


def _put_schedule(draft: Draft, steps: int) -> None:
    named = draft.text("lr_scheduler", "cosine_with_min_lr")
    schedule = SCHEDULES.get(named, "cosine")
    remark = "" if named in SCHEDULES else f"the nearest to {named}"
    draft.put("train.optimizer.schedule", schedule, "lr_scheduler", remark=remark)
    if schedule == "cosine":
        share = 0.0 if named == "cosine" else draft.number("min_lr_ratio", 0.1)
        draft.put("train.optimizer.final_share", share, "min_lr_ratio")
    draft.drop(f"{named} has no least rate", "min_lr_ratio")
    warmup = math.ceil(draft.number("lr_warmup_ratio", 0.03) * steps)
    draft.put("train.optimizer.warmup_steps", warmup, "lr_warmup_ratio", remark=f"of {steps} updates")
