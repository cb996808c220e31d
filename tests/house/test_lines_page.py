"""``docs/lines.md``: what it shows can be used, and it names every key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from rl.config import LineConfig
from rl.held_out import HeldOut
from rl.late import Late
from rl.objective_parts import GroupFilter, Kl, Mismatch, Overlong, Ptx
from rl.objectives import OBJECTIVES
from rl.readiness import Thresholds
from rl.training import Lora, Optimizer

PAGE = (Path(__file__).parents[2] / "docs" / "lines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ONES: tuple[type[BaseModel], ...] = (LineConfig, HeldOut, *OBJECTIVES, Lora, Optimizer, Kl, Ptx, GroupFilter, Mismatch)


def _keys() -> Iterator[str]:
    for one in (*ONES, *get_args(get_args(Overlong)[0])):
        yield from one.model_fields


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_example_is_a_line(block: str) -> None:
    config = LineConfig.model_validate({"base_model": "/srv/model"} | tomllib.loads(block))
    assert config.train is not None


def test_one_example_is_the_least_and_one_is_everything() -> None:
    least, everything = (tomllib.loads(block) for block in BLOCKS[:2])
    assert set(least) == {"base_model", "source", "train"}
    assert set(everything) == set(LineConfig.model_fields) - {"held_out"}, "a line has validation or held_out"
    assert any("held_out" in tomllib.loads(block) for block in BLOCKS)


def test_what_is_shown_as_a_default_is_one() -> None:
    shown = LineConfig.model_validate(tomllib.loads(BLOCKS[1]))
    assert shown.late == Late()
    assert shown.readiness.model_dump() == {name: getattr(Thresholds(), name) for name in Thresholds.model_fields}
    assert shown.release == LineConfig(base_model="/srv/model").release
    assert shown.train is not None
    needed = {"steps": 200, "optimizer": {"learning_rate": 1e-4}, "lora": {}}
    assert shown.train == type(shown.train).model_validate(needed)


@pytest.mark.parametrize("key", sorted(set(_keys())))
def test_every_key_is_named(key: str) -> None:
    assert re.search(rf"\b{key}\b", PAGE)
