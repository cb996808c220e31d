"""What ``train_ppo_ray``'s flags come to as an objective: estimator, ratio, clips, KL, and what shapes rewards."""

from __future__ import annotations

from typing import get_args

from rl.objective_parts import Estimator
from rl.openrlhf_draft import Draft

ESTIMATORS = {
    "gae": "ppo",
    "reinforce": "reinforce_baseline",
    "reinforce_baseline": "reinforce_baseline",
    "rloo": "rloo",
    "group_norm": "grpo",
    "dr_grpo": "dr_grpo",
}
"""Advantage estimators, and the objective that has the same; ``reinforce`` has a near one only."""

SEQUENCES = ("gspo", "rloo")
"""Objectives with one ratio a sample."""

NO_BOUND = 0.999
"""The greatest width below 1 that is told from it."""

MODES = {"tis": "tis", "icepop": "icepop", "seq-mask-tis": "sequence_mask"}


def map_objective(draft: Draft, train: str) -> None:
    """Put the objective and what it is made of under ``train``, a prefix such as ``rl.train.``.

    Raises:
        InvalidInput: a flag has a value that the framework would refuse.
    """
    estimator = draft.choice("advantage_estimator", "gae", ESTIMATORS)
    objective = _put_objective(draft, train, estimator)
    _put_clips(draft, train)
    if objective == "ppo":
        _put_value_head(draft, train)
    else:
        draft.drop(f"{objective} gives an episode one advantage: nothing is discounted", "gamma", "lambd")
        draft.drop(f"{objective} has no value head", "critic_learning_rate", "value_clip")
    _put_std(draft, train, objective, estimator)
    if draft.number("temperature", 1.0) > 0:
        draft.put(f"{train}temperature", draft.number("temperature", 1.0), "temperature")
    _put_kl(draft, f"{train}kl.", objective)
    _put_filter(draft, f"{train}filter.", objective)
    _put_overlong(draft, f"{train}overlong.")
    _put_mismatch(draft, f"{train}mismatch.", objective)
    _put_ptx(draft, f"{train}ptx.")


def _put_objective(draft: Draft, train: str, estimator: str) -> str:
    objective, remark = ESTIMATORS[estimator], ""
    names = ["advantage_estimator", "policy_loss_type"]
    if draft.choice("policy_loss_type", "ppo", ("ppo", "gspo")) == "gspo":
        objective = "gspo"
        if estimator != "group_norm":
            remark = f"gspo has the group's normalised advantage, and not {estimator}'s"
    elif objective == "grpo" and draft.has("dynamic_filtering"):
        objective = "dapo"
        names.append("dynamic_filtering")
    elif objective == "grpo":
        remark = "the mean is over samples, then tokens; there it is over all tokens"
    elif estimator == "reinforce":
        remark = "reinforce has no baseline; the nearest takes off the group's mean"
    elif estimator == "rloo":
        remark = "the ratio is of whole samples; there it is a token's"
    draft.put(f"{train}objective", objective, *names, remark=remark)
    if objective == "dr_grpo":
        flag = "max_new_tokens" if draft.has("max_new_tokens") else "generate_max_len"
        remark = "losses are divided by a constant length; there by the tokens"
        draft.put(f"{train}max_tokens", draft.whole(flag, 1024), flag, remark=remark)
    return objective


def _put_clips(draft: Draft, train: str) -> None:
    width = draft.number("eps_clip", 0.2)
    names = ("eps_clip_low_high",) if draft.has("eps_clip_low_high") else ("eps_clip",)
    low, high = draft.pair("eps_clip_low_high", (width, width))
    remark = f"1 or more bounds nothing below, as ratios are above 0; {NO_BOUND} is the nearest" if low >= 1 else ""
    draft.put(f"{train}clip_low", min(low, NO_BOUND), *names, remark=remark)
    draft.put(f"{train}clip_high", high, *names)
    if draft.has("dual_clip"):
        draft.put(f"{train}dual_clip", draft.number("dual_clip", 3.0), "dual_clip")


def _put_value_head(draft: Draft, train: str) -> None:
    draft.put(f"{train}gamma", draft.number("gamma", 1.0), "gamma")
    draft.put(f"{train}gae_lambda", draft.number("lambd", 1.0), "lambd")
    draft.put(f"{train}value_clip", draft.number("value_clip", 0.5), "value_clip")
    if draft.has("critic_learning_rate"):
        remark = "of a small head; there it is a whole model's"
        rate = draft.number("critic_learning_rate", 9e-6)
        draft.put(f"{train}value_learning_rate", rate, "critic_learning_rate", remark=remark)


def _put_std(draft: Draft, train: str, objective: str, estimator: str) -> None:
    if not draft.has("no_advantage_std_norm"):
        return
    if objective == "reinforce_baseline":
        draft.put(f"{train}normalise_std", False, "no_advantage_std_norm")
    elif objective == "ppo" or estimator in ("gae", "reinforce", "reinforce_baseline"):
        draft.drop(f"{objective} always divides by the deviation", "no_advantage_std_norm")


def _put_kl(draft: Draft, prefix: str, objective: str) -> None:
    coefficient = draft.number("init_kl_coef", 0.01)
    if coefficient <= 0:
        draft.drop("there is no KL: leave [train.kl] out", "init_kl_coef")
        return
    place = "loss" if draft.has("use_kl_loss") else "reward"
    names = ["kl_estimator", "use_kl_estimator_k3"]
    estimator = draft.choice("kl_estimator", "k3" if draft.has(names[1]) else "k1", get_args(Estimator))
    remark = ""
    if place == "reward" and objective in SEQUENCES:
        place, estimator = "loss", "k2"
        remark = f"{objective} has no reward a token; k2 in the loss has the gradient of k1 in the reward"
    draft.put(f"{prefix}estimator", estimator, *names, remark=remark)
    draft.put(f"{prefix}place", place, "use_kl_loss", remark=remark)
    draft.put(f"{prefix}coefficient", coefficient, "init_kl_coef")
    if draft.number("kl_target", 0.0) > 0:
        draft.put(f"{prefix}target", draft.number("kl_target", 0.0), "kl_target")
        draft.put(f"{prefix}horizon", draft.number("kl_horizon", 10000), "kl_horizon")


def _put_filter(draft: Draft, prefix: str, objective: str) -> None:
    if not draft.has("dynamic_filtering"):
        return
    if objective == "ppo":
        draft.drop("ppo has no groups to filter", "dynamic_filtering", "dynamic_filtering_reward_range")
        return
    low, high = draft.pair("dynamic_filtering_reward_range", (0.0, 1.0))
    remark = "groups left out are not played again"
    draft.put(f"{prefix}low", low, "dynamic_filtering", "dynamic_filtering_reward_range", remark=remark)
    draft.put(f"{prefix}high", high, "dynamic_filtering", "dynamic_filtering_reward_range", remark=remark)


def _put_overlong(draft: Draft, prefix: str) -> None:
    stop = draft.number("stop_properly_penalty_coef", 1.0)
    if draft.has("overlong_buffer_len"):
        flag = "max_new_tokens" if draft.has("max_new_tokens") else "generate_max_len"
        draft.put(f"{prefix}rule", "soft", "overlong_buffer_len")
        draft.put(f"{prefix}max_tokens", draft.whole(flag, 1024), flag)
        draft.put(f"{prefix}buffer", draft.whole("overlong_buffer_len", 1), "overlong_buffer_len")
        draft.put(f"{prefix}factor", draft.number("overlong_penalty_factor", 1.0), "overlong_penalty_factor")
        draft.drop("one rule for truncated episodes: --overlong_buffer_len has it", "stop_properly_penalty_coef")
    elif draft.has("stop_properly_penalty_coef") and stop < 1:
        draft.put(f"{prefix}rule", "stop_properly", "stop_properly_penalty_coef")
        draft.put(f"{prefix}coefficient", stop, "stop_properly_penalty_coef")


def _put_mismatch(draft: Draft, prefix: str, objective: str) -> None:
    if not draft.has("enable_vllm_is_correction"):
        return
    mode = MODES[draft.choice("vllm_is_correction_type", "tis", MODES)]
    names = ("enable_vllm_is_correction", "vllm_is_correction_type", "vllm_is_truncated_threshold")
    if objective in SEQUENCES and mode != "sequence_mask":
        draft.drop(f"{objective} has one ratio a sample, which a weight a token has nothing to weigh in", *names)
        return
    # One bound in the first releases, two since there are several types.
    later = "vllm_is_correction_type" in draft.flags or "." in draft.flags[names[0]].written
    wide = (0.5, 5.0) if later else (0.0, 2.0)
    given = draft.flags.get("vllm_is_truncated_threshold")
    default = (0.0, wide[1]) if given and len(given.values) == 1 else wide
    low, high = draft.pair(names[2], default)
    draft.put(f"{prefix}mode", mode, *names[:2])
    draft.put(f"{prefix}low", low, names[2])
    draft.put(f"{prefix}high", high, names[2])


def _put_ptx(draft: Draft, prefix: str) -> None:
    """Only releases that read curated data had the flag that names them."""
    if not draft.has("pretrain_data"):
        return
    coefficient = draft.number("ptx_coef", 0.05)
    if coefficient <= 0:
        return
    url, remark = source_url(draft.text("pretrain_data"))
    draft.put(f"{prefix}coefficient", coefficient, "ptx_coef")
    draft.put(f"{prefix}source", url, "pretrain_data", remark=remark)
    draft.put(f"{prefix}batch_episodes", draft.whole("train_batch_size", 128), "train_batch_size")


def source_url(data: str) -> tuple[str, str]:
    """A source for data as the framework names them, and what is still to be done; nothing for a JSONL file's path."""
    path = data.partition(",")[0].rpartition("@")[2]
    if path.startswith("/") and path.endswith((".jsonl", ".jsonl.gz")):
        return f"jsonl://{path}", "each line one trajectory: `rlfleet assess` says which are not"
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".jsonl") or "data"
    return f"jsonl:///srv/{name}.jsonl", f"write {data} to such a file, one trajectory a line"
