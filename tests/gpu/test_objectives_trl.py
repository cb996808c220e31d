"""Losses and gradients against TRL's own trainers, on the same weights and batch in fp32; ours in two micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu.objectives import cispo, dpo, dr_grpo, grpo, gspo, kl_penalty, per_episode, ppo_token_mean, rloo, sft
from gpu.terms import score
from gpu.tries import build
from rl.records import Sequence as TokenSequence

PROMPTS, COMPLETIONS = (5, 5, 3, 4), (7, 2, 4, 6)
N, WIDTH, LONGEST, TOKENS = len(COMPLETIONS), max(COMPLETIONS), max(PROMPTS), sum(COMPLETIONS)
COUNTS = torch.tensor(COMPLETIONS)
LOW, HIGH = 0.1, 0.15
ADVANTAGE = torch.tensor([1.5, -0.5, 0.8660254, -1.2])
HALVES = ([0, 2], [1, 3])

# TRL and what it loads warn about themselves; what is compared here are numbers.
pytestmark = pytest.mark.filterwarnings("ignore")

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""From log-probabilities, old ones, the reference's, advantages and the sample, [T] each."""


def log_probs(model: Any, ids: Tensor, lengths: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
    """Of the selected tokens, row by row, computed as the trainer does: log-probabilities and their rows, [T] each."""
    sequences = [
        TokenSequence(episode=row, ids=one[:n].tolist(), mask=chosen[:n].int().tolist(), logprobs=[0.0] * n)
        for row, (one, n, chosen) in enumerate(zip(ids, lengths.tolist(), selected, strict=True))
    ]
    scored = score(model, build(sequences, least_shared=1), "tree")
    order = torch.from_numpy(np.lexsort((scored.position.numpy(), scored.sample.numpy())))
    return scored.logp[order], scored.sample[order]


def load(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def trainers(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

    common = {
        "output_dir": str(tmp_path_factory.mktemp("trl")),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "per_device_train_batch_size": N,
    }
    online = common | {"num_generations": N, "max_completion_length": WIDTH}
    prompts = Dataset.from_dict({"prompt": ["turn left"] * N})
    pairs = Dataset.from_dict({"prompt": ["turn"], "chosen": ["turn left"], "rejected": ["turn right"]})
    rewarded = {"reward_funcs": lambda completions, **_: [0.0] * len(completions), "train_dataset": prompts}
    tokenizer = AutoTokenizer.from_pretrained(base)
    made = {
        "grpo": GRPOTrainer(load(base), args=GRPOConfig(**online), processing_class=tokenizer, **rewarded),
        "rloo": RLOOTrainer(load(base), args=RLOOConfig(**online), processing_class=tokenizer, **rewarded),
        "dpo": DPOTrainer(load(base), args=DPOConfig(**common), processing_class=tokenizer, train_dataset=pairs),
        "sft": SFTTrainer(
            load(base),
            args=SFTConfig(**common),
            processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"text": ["turn left"]}),
        ),
    }
    for trainer in made.values():
        trainer.model.gradient_checkpointing_disable()
        trainer.model.eval()
    return made


class Batch:
    """Ragged prompts and completions, padded as TRL has them (prompts on the left) and as we do (on the right).

    ``old`` and ``ref`` [N, WIDTH] are the model's own log-probabilities moved by up to 0.8.
    """

    def __init__(self, model: Any) -> None:
        draw = torch.Generator().manual_seed(15)
        rows = [torch.randint(3, 290, (p + c,), generator=draw) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
        self.lengths = torch.tensor([len(row) for row in rows])
        self.ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        column = torch.arange(self.ids.shape[1])
        prompt = torch.tensor(PROMPTS)
        self.selected = (column >= prompt[:, None]) & (column < self.lengths[:, None])
        self.prompt_ids, self.completion_ids = torch.zeros(N, LONGEST, dtype=torch.long), torch.zeros(N, WIDTH).long()
        for i, row in enumerate(rows):
            self.prompt_ids[i, LONGEST - PROMPTS[i] :] = row[: PROMPTS[i]]
            self.completion_ids[i, : COMPLETIONS[i]] = row[PROMPTS[i] :]
        self.prompt_mask = (torch.arange(LONGEST) >= LONGEST - prompt[:, None]).long()
        self.mask = (torch.arange(WIDTH) < COUNTS[:, None]).long()
        with torch.no_grad():
            own_logp, _ = log_probs(model, self.ids, self.lengths, self.selected)
        own = torch.zeros(N, WIDTH)
        own[self.mask.bool()] = own_logp
        self.old = (own + 0.8 * (2 * torch.rand(N, WIDTH, generator=draw) - 1)) * self.mask
        self.ref = (own + 0.8 * (2 * torch.rand(N, WIDTH, generator=draw) - 1)) * self.mask

    def grpo_inputs(self) -> dict[str, Tensor]:
        return {
            "prompt_ids": self.prompt_ids,
            "prompt_mask": self.prompt_mask,
            "completion_ids": self.completion_ids,
            "completion_mask": self.mask,
            "advantages": ADVANTAGE,
            "old_per_token_logps": self.old,
            "ref_per_token_logps": self.ref,
            "num_items_in_batch": torch.tensor(TOKENS),
        }

    def flat(self, model: Any, rows: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The terms of some rows: log-probabilities, old ones, the reference's, advantages and samples."""
        logp, row = log_probs(model, self.ids[rows], self.lengths[rows], self.selected[rows])
        kept = self.mask[rows].bool()
        sample = torch.tensor(rows)[row]
        return logp, self.old[rows][kept], self.ref[rows][kept], ADVANTAGE[sample], sample


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return load(base)


@pytest.fixture(scope="module")
def batch(model: Any) -> Batch:
    return Batch(model)


def assert_same(theirs: Tensor, their_model: Any, losses: list[Callable[[], Tensor]], model: Any) -> None:
    """Both losses and all parameters' gradients agree to a relative 1e-5; ours are summed over ``losses``."""
    their_model.zero_grad()
    theirs.backward()
    model.zero_grad()
    ours = 0.0
    for loss in losses:
        part = loss()
        part.backward()
        ours += part.item()
    assert ours == pytest.approx(theirs.item(), rel=1e-5)
    difference = norm = 0.0
    for (name, one), (other_name, other) in zip(their_model.named_parameters(), model.named_parameters(), strict=True):
        assert name == other_name
        difference += (one.grad - other.grad).square().sum().item()
        norm += one.grad.square().sum().item()
    assert norm > 0
    assert (difference / norm) ** 0.5 <= 1e-5


CASES: dict[str, tuple[dict[str, Any], Loss]] = {
    "grpo": (
        {"loss_type": "grpo"},
        lambda lp, old, ref, a, s: grpo(lp, old, a, s, N, LOW, HIGH, COUNTS),
    ),
    "grpo with two-sided clipping": (
        {"loss_type": "grpo", "delta": 1.2},
        lambda lp, old, ref, a, s: grpo(lp, old, a, s, N, LOW, HIGH, COUNTS, dual_clip=1.2),
    ),
    "grpo with k3": (
        {"loss_type": "grpo", "beta": 0.3},
        lambda lp, old, ref, a, s: (
            grpo(lp, old, a, s, N, LOW, HIGH, COUNTS)
            + kl_penalty(lp, ref, "k3", 0.3, share=per_episode(s, N, torch.float32, COUNTS))
        ),
    ),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        lambda lp, old, ref, a, s: gspo(lp, old, ADVANTAGE, s, LOW, HIGH, N),
    ),
    "dapo": (
        {"loss_type": "dapo"},
        lambda lp, old, ref, a, s: ppo_token_mean(lp, old, a, LOW, HIGH, TOKENS),
    ),
    "ppo's surrogate with k3": (
        {"loss_type": "bnpo", "beta": 0.2},
        lambda lp, old, ref, a, s: (
            ppo_token_mean(lp, old, a, LOW, HIGH, TOKENS) + kl_penalty(lp, ref, "k3", 0.2, TOKENS)
        ),
    ),
    "dr_grpo": (
        {"loss_type": "dr_grpo"},
        lambda lp, old, ref, a, s: dr_grpo(lp, old, a, N, WIDTH, LOW, HIGH),
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.2},
        lambda lp, old, ref, a, s: cispo(lp, old, a, 1.0, 0.2, TOKENS),
    ),
}


def test_the_batch_reaches_every_branch(model: Any, batch: Batch) -> None:
    terms = [batch.flat(model, rows) for rows in HALVES]
    lp, old, advantage = (torch.cat([one[i] for one in terms]).detach() for i in (0, 1, 3))
    rho = (lp - old).exp()
    for bad in (False, True):
        mine = rho[(advantage < 0) == bad]
        assert (mine < 1 - LOW).any()
        assert ((mine > 1 - LOW) & (mine < 1 + HIGH)).any()
        assert (mine > 1.2).any()


@pytest.mark.parametrize("name", CASES)
def test_policy_losses(name: str, trainers: dict[str, Any], model: Any, batch: Batch) -> None:
    settings, loss = CASES[name]
    trainer = trainers["grpo"]
    trainer.loss_type = settings["loss_type"]
    trainer.importance_sampling_level = settings.get("importance_sampling_level", "token")
    trainer.epsilon_low, trainer.epsilon_high = LOW, settings.get("epsilon_high", HIGH)
    trainer.beta = settings.get("beta", 0.0)
    trainer.args.delta = settings.get("delta")
    trainer.args.use_bias_correction_kl = False
    theirs = trainer._compute_loss(trainer.model, batch.grpo_inputs())
    halves = [lambda rows=rows: loss(*batch.flat(model, rows)) for rows in HALVES]
    assert_same(theirs, trainer.model, halves, model)


def test_rloo(trainers: dict[str, Any], model: Any, batch: Batch) -> None:
    trainer = trainers["rloo"]
    trainer.epsilon_low, trainer.epsilon_high = 0.6, 0.6
    inputs = batch.grpo_inputs() | {"old_logps": batch.old.sum(1)}
    theirs = trainer._compute_loss(trainer.model, inputs)

    def half(rows: list[int]) -> Tensor:
        lp, old, _, _, sample = batch.flat(model, rows)
        return rloo(lp, old, ADVANTAGE, sample, 0.6, 0.6, N)

    assert_same(theirs, trainer.model, [lambda rows=rows: half(rows) for rows in HALVES], model)


def test_dpo(trainers: dict[str, Any], model: Any, batch: Batch) -> None:
    trainer = trainers["dpo"]
    trainer.precompute_ref_logps = True
    chosen_ref, rejected_ref = batch.ref.sum(1).chunk(2)
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": (torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]).long(),
        "completion_mask": batch.selected.long(),
        "ref_chosen_logps": chosen_ref,
        "ref_rejected_logps": rejected_ref,
    }
    theirs = trainer._compute_loss(trainer.model, inputs, False)

    def pair(rows: list[int]) -> Tensor:
        lp, _, ref, _, sample = batch.flat(model, rows)
        return dpo(lp, ref, sample, torch.tensor(rows[:1]), torch.tensor(rows[1:]), trainer.beta, 2)

    # TRL's batch holds the chosen ones first: 0 is preferred to 2, and 1 to 3.
    assert_same(theirs, trainer.model, [lambda rows=rows: pair(rows) for rows in HALVES], model)


def test_sft(trainers: dict[str, Any], model: Any, batch: Batch) -> None:
    trainer = trainers["sft"]
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": (torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]).long(),
        "labels": batch.ids.masked_fill(~batch.selected, -100),
    }
    theirs = trainer.compute_loss(trainer.model, inputs)

    def half(rows: list[int]) -> Tensor:
        lp = batch.flat(model, rows)[0]
        return sft(lp, torch.ones_like(lp), TOKENS)

    assert_same(theirs, trainer.model, [lambda rows=rows: half(rows) for rows in HALVES], model)
