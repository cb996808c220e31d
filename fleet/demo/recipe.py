"""What the demo does, as configs: proven on seeds other than those you will try. See docs/training.md."""

from __future__ import annotations

from dataclasses import dataclass

from rl.config import (
    GrpoTrain,
    LineConfig,
    Lora,
    Optimizer,
    Release,
    Rollout,
    RunConfig,
    SftTrain,
    TaskSet,
)
from rl.decidable import pairs_left

ENVIRONMENT = "babyai-goto"
BLOCK = 1_000_000
"""Seeds of a split that belong to one demo seed: no two demos share a scenario."""
FIRST_ROLLOUT = 500_000
"""Train seeds of a block below this are the logs', from here on the rounds'."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    episodes: int = 2500
    bad_rows: int = 5
    sft_steps: int = 300
    rounds: int = 12
    scenarios: int = 32
    group: int = 8
    validation: int = 128
    held_out: int = 300


QUICK = Size(episodes=300, sft_steps=30, rounds=2, scenarios=8, group=4, validation=24, held_out=40)
"""Every stage, in about a minute; far too little to learn much."""


def line(size: Size, seed: int, name: str, base_model: str, source: str) -> LineConfig:
    """The line that starts from the agent's logs: clone all of them, then look at the validation scenarios."""
    return LineConfig(
        base_model=base_model,
        version_prefix=name,
        source=source,
        automatic=False,
        train=SftTrain(
            token_budget=1024,
            steps=size.sft_steps,
            batch_episodes=16,
            observation_weight=0.5,
            optimizer=Optimizer(
                learning_rate=3e-3,
                schedule="cosine",
                final_share=0.1,
                warmup_steps=max(1, size.sft_steps // 20),
                weight_decay=0.01,
            ),
            seed=seed,
        ),
        validation=TaskSet(environment=ENVIRONMENT, split="validation", first_seed=seed * BLOCK, count=size.validation),
    )


def run(size: Size, seed: int, name: str) -> RunConfig:
    """The rounds of practice that follow, and what must hold before the result is released."""
    return RunConfig(
        name=name,
        rounds=size.rounds,
        rollout=Rollout(
            environment=ENVIRONMENT,
            scenarios=size.scenarios,
            episodes=size.group,
            first_seed=seed * BLOCK + FIRST_ROLLOUT,
            temperature=1.0,
            max_tokens=6,
            concurrency=128,
        ),
        train=GrpoTrain(
            lora=Lora(rank=16, alpha=32),
            token_budget=1024,
            mini_batches=4,
            optimizer=Optimizer(learning_rate=2e-3, warmup_steps=8),
            seed=seed,
        ),
        validation=TaskSet(environment=ENVIRONMENT, split="validation", first_seed=seed * BLOCK, count=size.validation),
        held_out=TaskSet(environment=ENVIRONMENT, split="held_out", first_seed=seed * BLOCK, count=size.held_out),
        release=Release(min_probability=0.95, min_scenarios=_fewest(size.held_out), share=100, strategy="immediate"),
    )


def _fewest(held_out: int) -> int:
    """The default of 200; of a small demo what is left for both versions when each lacks 5 % of its verdicts."""
    return min(200, pairs_left(held_out))
