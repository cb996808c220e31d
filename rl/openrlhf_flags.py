"""Every flag of OpenRLHF's ``train_ppo_ray`` and ``train_sft``, v0.5.0 to v0.11.0, and why some mean nothing here.

Releases from v0.10.2 on write flags with dots; each is listed under the name that releases before gave it.
"""

from __future__ import annotations

import difflib
import re

PPO, SFT = "train_ppo_ray", "train_sft"
LEAST_LIKENESS = 0.6


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NOT_HERE = {
    "placement: a worker a device takes jobs; set train.devices where one training needs several": (
        "ref_num_nodes ref_num_gpus_per_node reward_num_nodes reward_num_gpus_per_node actor_num_nodes"
        " actor_num_gpus_per_node critic_num_nodes critic_num_gpus_per_node colocate_actor_ref colocate_critic_reward"
        " colocate_all_models actor_init_on_gpu local_rank"
    ),
    "vLLM: the engine is a process of its own, with settings of its own": (
        "vllm_num_engines vllm_tensor_parallel_size vllm_sync_backend vllm_sync_with_ray enable_prefix_caching"
        " enforce_eager vllm_enable_sleep vllm_gpu_memory_utilization vllm_generate_batch_size"
    ),
    "DeepSpeed: the trainer needs none of it": (
        "zero_stage zpg adam_offload overlap_comm grad_accum_dtype deepcompile torch_compile disable_trace_cache"
        " use_ds_universal_ckpt ds_tensor_parallel_size deepspeed_enable_sleep ref_reward_offload ref.offload"
        " reward.offload"
    ),
    "kernels and types of numbers are chosen by what the device can": (
        "bf16 param_dtype flash_attn attn_implementation experts_implementation use_liger_kernel ring_attn_size"
        " ring_head_stride disable_fast_tokenizer dataloader_num_workers"
    ),
    "sequences are always packed, and what they begin with in common is computed once": "packing_samples",
    "train.checkpointing is auto: as few layers as memory allows": (
        "gradient_checkpointing gradient_checkpointing_use_reentrant"
    ),
    "a round ends before it is trained on; rollout.concurrency says how many episodes are played at once": (
        "async_train async_queue_size partial_rollout"
    ),
    "log-probabilities are computed in bins of train.token_budget tokens": (
        "micro_rollout_batch_size rollout_max_tokens_per_gpu"
    ),
    "every version is kept as an artifact, and a stopped run goes on where it was": (
        "save_path ckpt_path save_hf_ckpt disable_ds_ckpt max_ckpt_mem load_checkpoint"
    ),
    "retention.checkpoints of a line says how many stay": "max_ckpt_num",
    "every version is evaluated": "eval_steps",
    "the choice among versions is made by their verdicts on [validation]": "best_metric_key",
    "a version is the weights as they were trained, not an average of them": "enable_ema ema_beta",
    "RLFLEET_SINKS copies every run to W&B and TensorBoard; progress is also in `rlfleet runs`": (
        "use_wandb wandb_org wandb_group wandb_project wandb_run_name use_tensorboard logging_steps"
    ),
    "the environment deals its scenarios, words the prompts and knows the answers": (
        "prompt_data prompt_data_probs prompt_split input_key label_key input_template eval_dataset eval_split"
    ),
    "the chat template of the tokenizer is always used": "apply_chat_template tokenizer_chat_template",
    "the environment gives the reward; there is no reward model": (
        "reward_pretrain remote_rm_url value_head_prefix normalize_reward"
    ),
    "the environment plays the episode": "agent_func_path",
    "rewards of an environment have bounds of their own": "reward_clip_range",
    "there is no entropy bonus": "entropy_loss_coef",
    "there is no balancing loss for experts": "aux_loss_coef",
    "tokens are drawn from the whole distribution, or the stored log-probabilities would be wrong": "top_p",
    "the value head of ppo is small and trained from nothing with the policy": (
        "critic_pretrain freezing_actor_steps save_value_network"
    ),
    "a model with images cannot be trained": "image_key max_images_per_prompt freeze_visual_encoder",
    "adapters lie on every linear layer and have no dropout: shared beginnings are computed once": (
        "lora_dropout target_modules"
    ),
    "the optimizer is AdamW with eps 1e-8": (
        "optim actor.optim actor.muon.lr actor.muon.momentum actor.muon.ns_steps actor.muon.nesterov"
        " actor.muon.no_nesterov adam_eps muon.lr muon.momentum muon.ns_steps muon.nesterov muon.no_nesterov"
    ),
    "a value head has train.value_learning_rate, and else the policy's optimizer": (
        "critic.optim critic.muon.lr critic.muon.momentum critic.muon.ns_steps critic.muon.nesterov"
        " critic.muon.no_nesterov critic.adam.betas critic.adam.eps critic.adam.weight_decay critic.lr_scheduler"
        " critic.lr_warmup_ratio critic.min_lr_ratio critic.max_norm"
    ),
    "trainings are seeded; `rlfleet reproduce` compares the bytes": "full_determinism",
    "models are folders or ids of one hub": "use_ms",
    "a trajectory's turns say who spoke": "output_key multiturn pretrain_mode",
    "a line has one source": "dataset_probs dataset_split train_split pretrain_data_probs pretrain_split",
    "a turn's prompt is never cut; the engine's context bounds it, and train.token_budget what is computed at once": (
        "prompt_max_len"
    ),
}
"""Why flags have no counterpart, and which."""

MAPPED = _names(
    "pretrain actor_learning_rate learning_rate lr_scheduler lr_warmup_ratio min_lr_ratio adam_betas l2 max_norm"
    " lora_rank lora_alpha load_in_4bit seed micro_train_batch_size train_batch_size use_dynamic_batch"
    " train_max_tokens_per_gpu max_len generate_max_len max_new_tokens max_epochs num_episodes max_samples dataset"
    " save_steps rollout_batch_size n_samples_per_prompt temperature advantage_estimator policy_loss_type gamma lambd"
    " value_clip critic_learning_rate eps_clip eps_clip_low_high dual_clip no_advantage_std_norm init_kl_coef"
    " kl_estimator use_kl_estimator_k3 use_kl_loss kl_target kl_horizon ptx_coef pretrain_data overlong_buffer_len"
    " overlong_penalty_factor stop_properly_penalty_coef dynamic_filtering dynamic_filtering_reward_range"
    " enable_vllm_is_correction vllm_is_truncated_threshold vllm_is_correction_type eval_temperature"
    " eval_n_samples_per_prompt perf"
)
"""Flags that ``rl/openrlhf_run.py`` or ``rl/openrlhf_sft.py`` read."""

REASONS = {name: reason for reason, names in NOT_HERE.items() for name in names.split()}
KNOWN = frozenset(REASONS) | MAPPED

SWITCHES = _names(
    "colocate_actor_ref colocate_critic_reward colocate_all_models actor_init_on_gpu vllm_sync_with_ray"
    " enable_prefix_caching enforce_eager vllm_enable_sleep adam_offload overlap_comm deepcompile torch_compile"
    " disable_trace_cache use_ds_universal_ckpt deepspeed_enable_sleep ref_reward_offload ref.offload reward.offload"
    " bf16 flash_attn use_liger_kernel disable_fast_tokenizer packing_samples gradient_checkpointing"
    " gradient_checkpointing_use_reentrant async_train partial_rollout save_hf_ckpt disable_ds_ckpt load_checkpoint"
    " enable_ema apply_chat_template normalize_reward save_value_network freeze_visual_encoder actor.muon.nesterov"
    " actor.muon.no_nesterov muon.nesterov muon.no_nesterov critic.muon.nesterov critic.muon.no_nesterov"
    " full_determinism use_ms multiturn pretrain_mode load_in_4bit use_dynamic_batch no_advantage_std_norm"
    " use_kl_estimator_k3 use_kl_loss dynamic_filtering enable_vllm_is_correction perf"
)
"""Flags without a value."""

PAIRS = _names("adam_betas critic.adam.betas eps_clip_low_high reward_clip_range dynamic_filtering_reward_range")
"""Flags with two values. ``vllm_is_truncated_threshold`` has one or two, ``target_modules`` any number."""
SEVERAL = frozenset(("vllm_is_truncated_threshold", "target_modules"))

SECRET = frozenset(("use_wandb",))
"""Flags whose value may be a key: it is never shown."""

_DOTTED = """
    ref.num_nodes=ref_num_nodes ref.num_gpus_per_node=ref_num_gpus_per_node reward.num_nodes=reward_num_nodes
    reward.num_gpus_per_node=reward_num_gpus_per_node actor.num_nodes=actor_num_nodes
    actor.num_gpus_per_node=actor_num_gpus_per_node critic.num_nodes=critic_num_nodes
    critic.num_gpus_per_node=critic_num_gpus_per_node train.colocate_actor_ref=colocate_actor_ref
    train.colocate_critic_reward=colocate_critic_reward train.colocate_all=colocate_all_models
    vllm.num_engines=vllm_num_engines vllm.tensor_parallel_size=vllm_tensor_parallel_size
    vllm.sync_backend=vllm_sync_backend vllm.sync_with_ray=vllm_sync_with_ray
    vllm.enable_prefix_caching=enable_prefix_caching vllm.enforce_eager=enforce_eager
    vllm.enable_sleep=vllm_enable_sleep vllm.gpu_memory_utilization=vllm_gpu_memory_utilization
    algo.advantage.is_correction_enable=enable_vllm_is_correction
    algo.advantage.is_correction_threshold=vllm_is_truncated_threshold
    algo.advantage.is_correction_type=vllm_is_correction_type train.async_enable=async_train
    train.async_queue_size=async_queue_size train.partial_rollout_enable=partial_rollout eval.steps=eval_steps
    ckpt.save_steps=save_steps logger.logging_steps=logging_steps ckpt.path=ckpt_path ckpt.save_hf=save_hf_ckpt
    ckpt.disable_ds=disable_ds_ckpt ckpt.max_num=max_ckpt_num ckpt.max_mem=max_ckpt_mem
    ckpt.load_enable=load_checkpoint ckpt.best_metric_key=best_metric_key ds.use_universal_ckpt=use_ds_universal_ckpt
    ds.zero_stage=zero_stage actor.gradient_checkpointing_enable=gradient_checkpointing ds.deepcompile=deepcompile
    ds.param_dtype=param_dtype train.enable_ema=enable_ema train.ema_beta=ema_beta ds.zpg=zpg
    ds.adam_offload=adam_offload ds.attn_implementation=attn_implementation
    ds.experts_implementation=experts_implementation ds.use_liger_kernel=use_liger_kernel
    ds.grad_accum_dtype=grad_accum_dtype ds.overlap_comm=overlap_comm
    actor.gradient_checkpointing_reentrant=gradient_checkpointing_use_reentrant
    data.disable_fast_tokenizer=disable_fast_tokenizer data.dataloader_num_workers=dataloader_num_workers
    ds.enable_sleep=deepspeed_enable_sleep ds.tensor_parallel_size=ds_tensor_parallel_size
    ds.packing_samples=packing_samples train.dynamic_batch_enable=use_dynamic_batch
    rollout.max_tokens_per_gpu=rollout_max_tokens_per_gpu train.max_tokens_per_gpu=train_max_tokens_per_gpu
    ds.load_in_4bit=load_in_4bit ds.lora.rank=lora_rank ds.lora.alpha=lora_alpha
    ds.lora.target_modules=target_modules ds.lora.dropout=lora_dropout ckpt.output_dir=save_path
    train.num_episodes=num_episodes rollout.batch_size=rollout_batch_size
    rollout.vllm_generate_batch_size=vllm_generate_batch_size rollout.micro_batch_size=micro_rollout_batch_size
    train.max_epochs=max_epochs data.max_len=max_len rollout.max_new_tokens=max_new_tokens
    data.max_samples=max_samples actor.eps_clip=eps_clip actor.eps_clip_low_high=eps_clip_low_high
    actor.dual_clip=dual_clip critic.value_clip=value_clip algo.advantage.lambd=lambd algo.advantage.gamma=gamma
    train.micro_batch_size=micro_train_batch_size train.batch_size=train_batch_size
    reward.normalize_enable=normalize_reward rollout.top_p=top_p rollout.temperature=temperature train.seed=seed
    train.full_determinism_enable=full_determinism critic.freezing_steps=freezing_actor_steps
    rollout.n_samples_per_prompt=n_samples_per_prompt critic.save_value_network=save_value_network
    algo.kl.target=kl_target algo.kl.horizon=kl_horizon algo.kl.init_coef=init_kl_coef
    actor.policy_loss_type=policy_loss_type algo.kl.estimator=kl_estimator actor.aux_loss_coef=aux_loss_coef
    actor.entropy_coef=entropy_loss_coef reward.clip_range=reward_clip_range actor.adam.lr=actor_learning_rate
    critic.adam.lr=critic_learning_rate actor.adam.betas=adam_betas actor.adam.eps=adam_eps actor.adam.weight_decay=l2
    actor.lr_scheduler=lr_scheduler actor.lr_warmup_ratio=lr_warmup_ratio actor.min_lr_ratio=min_lr_ratio
    actor.max_norm=max_norm algo.advantage.estimator=advantage_estimator algo.kl.use_loss=use_kl_loss
    algo.advantage.no_std_norm=no_advantage_std_norm reward.overlong_buffer_len=overlong_buffer_len
    reward.overlong_penalty_factor=overlong_penalty_factor
    reward.stop_properly_penalty_coef=stop_properly_penalty_coef ds.ring_attn_size=ring_attn_size
    ds.ring_attn_head_stride=ring_head_stride actor.model_name_or_path=pretrain
    reward.model_name_or_path=reward_pretrain reward.remote_url=remote_rm_url
    critic.model_name_or_path=critic_pretrain ds.value_head_prefix=value_head_prefix
    train.agent_func_path=agent_func_path data.prompt_dataset=prompt_data data.prompt_probs=prompt_data_probs
    data.prompt_split=prompt_split eval.dataset=eval_dataset eval.split=eval_split eval.temperature=eval_temperature
    eval.n_samples_per_prompt=eval_n_samples_per_prompt data.input_key=input_key data.label_key=label_key
    data.input_template=input_template data.apply_chat_template=apply_chat_template logger.wandb.key=use_wandb
    logger.wandb.org=wandb_org logger.wandb.group=wandb_group logger.wandb.project=wandb_project
    logger.wandb.run_name=wandb_run_name algo.dynamic_filtering_enable=dynamic_filtering
    algo.dynamic_filtering_range=dynamic_filtering_reward_range data.image_key=image_key
    data.max_images_per_prompt=max_images_per_prompt actor.freeze_visual_encoder=freeze_visual_encoder
    logger.tensorboard_dir=use_tensorboard adam.lr=learning_rate adam.betas=adam_betas adam.eps=adam_eps
    adam.weight_decay=l2 data.dataset=dataset data.dataset_probs=dataset_probs data.dataset_split=dataset_split
    data.multiturn=multiturn data.output_key=output_key data.tokenizer_chat_template=tokenizer_chat_template
    model.aux_loss_coef=aux_loss_coef model.gradient_checkpointing_enable=gradient_checkpointing
    model.gradient_checkpointing_reentrant=gradient_checkpointing_use_reentrant model.model_name_or_path=pretrain
    model.pretrain_mode_enable=pretrain_mode
"""
DOTTED = dict(pair.split("=") for pair in _DOTTED.split())
"""Names with dots, and what they were called before."""


def canonical(name: str) -> str | None:
    """The name a flag is listed under, from how it is written without its dashes; None for one nobody knows."""
    name = DOTTED.get(name, name)
    return name if name in KNOWN else None


def nearest(name: str) -> str | None:
    """The known flag that is written most like ``name``, whatever the order of its words."""

    def likeness(known: str) -> float:
        pairs = ((name, known), (_in_order(name), _in_order(known)))
        return max(difflib.SequenceMatcher(None, one, other).ratio() for one, other in pairs)

    near = max([*sorted(KNOWN), *DOTTED], key=likeness)
    return near if likeness(near) >= LEAST_LIKENESS else None


def _in_order(name: str) -> str:
    return "_".join(sorted(re.split(r"[._-]+", name)))
