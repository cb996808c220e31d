"""Flags of ``train_ppo_ray`` that were given and had no effect, beside others that were or were not."""

from __future__ import annotations

from rl.openrlhf_draft import Draft

GROUPED = ("rloo", "reinforce_baseline", "group_norm", "dr_grpo")

ONLY_WITH = {
    "use_dynamic_batch": "train_max_tokens_per_gpu rollout_max_tokens_per_gpu",
    "enable_vllm_is_correction": "vllm_is_truncated_threshold vllm_is_correction_type",
    "overlong_buffer_len": "overlong_penalty_factor",
    "dynamic_filtering": "dynamic_filtering_reward_range",
    "colocate_all_models": "vllm_enable_sleep",
    "enable_ema": "ema_beta",
    "async_train": "async_queue_size",
    "kl_target": "kl_horizon",
    "use_wandb": "wandb_org wandb_group wandb_project wandb_run_name",
    "eval_dataset": "eval_split eval_temperature eval_n_samples_per_prompt best_metric_key",
}
"""A flag, and those that are read only where it is given."""

CRITIC = "critic_learning_rate critic_pretrain critic_num_nodes critic_num_gpus_per_node save_value_network value_clip"
KL = "use_kl_loss kl_estimator use_kl_estimator_k3 kl_target kl_horizon"
PLACEHOLDERS = ("muon.ns_steps", "muon.nesterov", "muon.no_nesterov")


def kill_what_was_dead(draft: Draft) -> None:
    """Name each flag that had no effect, and why. Facts of v0.8.9 up to v0.11.0, read in its sources."""
    for needed, names in ONLY_WITH.items():
        if needed not in draft.flags:
            draft.kill(f"it is read only with --{needed}", *names.split())
    estimator = draft.text("advantage_estimator", "gae")
    if estimator != "gae":
        _kill_critic(draft, estimator)
    if estimator in GROUPED:
        draft.kill(f"set to 1.0 for {estimator}, with no more than a warning", "gamma")
    if estimator in ("rloo", "group_norm", "dr_grpo"):
        draft.kill(f"advantages of {estimator} are never divided by a batch's deviation", "no_advantage_std_norm")
    if draft.has("eps_clip_low_high"):
        draft.kill("--eps_clip_low_high overrides it", "eps_clip")
    if draft.number("init_kl_coef", 0.01) <= 0:
        draft.kill("without a coefficient there is no KL", *KL.split())
    if draft.number("kl_target", 1.0) <= 0:
        draft.kill("a target of 0 leaves the coefficient as it is", "kl_target", "kl_horizon")
    _kill_rewards(draft)
    _kill_ptx(draft)
    if draft.number("stop_properly_penalty_coef", 0.0) == 1:
        draft.kill("a reward times 1 is the same", "stop_properly_penalty_coef")
    kill_optimizer(draft)


def kill_optimizer(draft: Draft) -> None:
    """Flags of adapters without an adapter, of Muon without Muon, and one that nothing reads."""
    if not draft.whole("lora_rank", 0, least=0):
        draft.kill("there is no adapter: --lora_rank is 0", "lora_alpha", "lora_dropout", "target_modules")
    draft.kill("nothing reads it", "perf")
    for owner in ("", "actor.", "critic."):
        draft.kill("a placeholder: DeepSpeed ignores it", *(owner + name for name in PLACEHOLDERS))
        if draft.text(f"{owner}optim", "adam") != "muon":
            draft.kill(f"the optimizer is adam: --{owner}optim", f"{owner}muon.lr", f"{owner}muon.momentum")


def _kill_critic(draft: Draft, estimator: str) -> None:
    dotted = (name for name in draft.flags if name and name.startswith("critic."))
    draft.kill(f"no critic is built for {estimator}: only gae has one", *CRITIC.split(), *dotted)
    draft.kill(f"only gae has a lambda, not {estimator}", "lambd")


def _kill_rewards(draft: Draft) -> None:
    agent, remote = "agent_func_path" in draft.flags, "remote_rm_url" in draft.flags
    if agent:
        draft.kill("--agent_func_path overrides it: the agent gives the reward", "remote_rm_url")
    if agent or remote:
        draft.kill("no reward model is loaded: the reward comes from elsewhere", "reward_pretrain", "normalize_reward")


def _kill_ptx(draft: Draft) -> None:
    """The coefficient outlived the data: from v0.7.1 on it is parsed and never read."""
    if "pretrain_data" not in draft.flags:
        draft.kill("nothing reads it since the flag for its data, --pretrain_data, was taken out", "ptx_coef")
    elif draft.number("ptx_coef", 0.05) <= 0:
        draft.kill("--ptx_coef is 0", "ptx_coef", "pretrain_data")
