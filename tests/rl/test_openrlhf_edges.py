"""Values of OpenRLHF's flags at the edge of what a config takes, and beyond it."""

from __future__ import annotations

import tomllib

import pytest

from rl.config import LineConfig, RunConfig
from rl.errors import InvalidInput
from rl.openrlhf import Imported, imported


def ppo(flags: str) -> Imported:
    return imported(f"python -m openrlhf.cli.train_ppo_ray {flags}", "tried")


def why(found: Imported, flag: str) -> str:
    (row,) = [row for row in found.rows if row.flag == flag]
    assert row.fate == "mapped"
    return row.why


@pytest.mark.parametrize("norm", ["0", "-1", "0.0"])
def test_no_clip_of_gradients_is_a_bound_that_none_reaches(norm: str) -> None:
    found = ppo(f"--max_norm {norm}")
    assert RunConfig.model_validate(tomllib.loads(found.toml)).train.optimizer.gradient_clip == 1e9
    assert why(found, "--max_norm") == "nothing is clipped there; no gradient is so long"
    found = imported(f"python -m openrlhf.cli.train_sft --max_norm {norm}", "tried")
    line = LineConfig.model_validate(tomllib.loads(found.toml))
    assert line.train is not None
    assert line.train.optimizer.gradient_clip == 1e9


@pytest.mark.parametrize(
    ("flags", "clips", "flag"),
    [
        ("--eps_clip 1.0", (0.999, 1.0), "--eps_clip"),
        ("--eps_clip 2", (0.999, 2.0), "--eps_clip"),
        ("--eps_clip_low_high 1 3", (0.999, 3.0), "--eps_clip_low_high"),
    ],
)
def test_a_clip_that_bounds_nothing_below_is_the_widest_there_is(
    flags: str, clips: tuple[float, float], flag: str
) -> None:
    found = ppo(flags)
    train = RunConfig.model_validate(tomllib.loads(found.toml)).train
    assert (train.clip_low, train.clip_high) == clips
    assert why(found, flag).startswith("1 or more bounds nothing below")


@pytest.mark.parametrize(
    ("script", "field"),
    [
        ("echo hello", "script"),
        ("python -m openrlhf.cli.train_dpo --beta 1", "script"),
        ("python -m openrlhf.cli.train_sft\npython -m openrlhf.cli.train_ppo_ray", "script"),
        ("python -m openrlhf.cli.train_ppo_ray --eps_clip much", "--eps_clip"),
        ("python -m openrlhf.cli.train_ppo_ray --eps_clip", "--eps_clip"),
        ("python -m openrlhf.cli.train_ppo_ray --eps_clip nan", "--eps_clip"),
        ("python -m openrlhf.cli.train_ppo_ray --max_epochs 1.5", "--max_epochs"),
        ("python -m openrlhf.cli.train_ppo_ray --kl_estimator k4", "--kl_estimator"),
        ("python -m openrlhf.cli.train_ppo_ray --dual_clip 0.5", "train.dual_clip"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_its_name(script: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        imported(script, "tried")
    assert caught.value.field == field
