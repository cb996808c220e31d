"""Every pipeline of the repository can be read, carried out and decided, as it is and made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from environments import KNOWN
from fleet.files import read_toml
from fleet.pipeline.run import check
from fleet.processes import ROOT
from rl.objectives import Ppo
from rl.pipeline import Pipeline
from rl.pipeline_quick import quick

FILES = sorted((ROOT / "pipelines").rglob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_pipeline_can_be_carried_out(file: Path) -> None:
    config = read_toml(file, Pipeline)
    assert config.name == file.stem
    check(config)
    check(quick(config, KNOWN))


def test_the_published_defaults() -> None:
    config = read_toml(ROOT / "pipelines" / "affine.toml", Pipeline)
    members = ["sat", "abd", "ded", "webshop", "alfworld", "babyai", "sciworld", "textcraft"]
    assert config.environment.split("+") == members
    sft, train = config.sft, config.rl.train
    assert sft.lora is not None
    assert (sft.lora.rank, sft.batch_episodes, sft.optimizer.learning_rate) == (64, 16, 2e-5)
    assert (sft.optimizer.schedule, sft.optimizer.warmup_steps > 0) == ("cosine", True)
    assert sft.steps == 585, "3 epochs of 3120 episodes in batches of 16"
    assert isinstance(train, Ppo)
    assert train.lora is not None
    assert (train.lora.rank, train.clip_low, train.clip_high) == (64, 0.2, 0.2)
    assert (train.gae_lambda, train.gamma) == (0.95, 0.99)
    assert config.rl.rollout.temperature == train.temperature


def test_every_line_of_the_published_one_says_why() -> None:
    """Names, tables and what repeats a line above are told from the rest."""
    lines = (ROOT / "pipelines" / "affine.toml").read_text().splitlines()
    settings = [
        line for line in lines if " = " in line and not line.startswith(("#", "name", "seed", 'objective = "sft"'))
    ]
    assert [line for line in settings if "#" not in line] == []
