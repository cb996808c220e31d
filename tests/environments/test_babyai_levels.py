# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import gymnasium
import minigrid
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.babyai.layouts import layout, main, turns_of_expert
from environments.babyai.levels import NAMES, content, make, registered
from environments.babyai.quiet import Quiet
from environments.babyai.sight import observe, visible
from environments.dealing import digest_of, split_of

SPLITS = ("train", "validation", "held_out")


def test_the_forty_are_the_last_registered_of_each_of_minigrids_level_classes() -> None:
    last: dict[str, str] = {}
    for name, spec in gymnasium.registry.items():
        if name.startswith("BabyAI-"):
            last[str(spec.entry_point)] = name
    assert minigrid.__version__.startswith("3."), "another minigrid may register other levels"
    assert [registered(name) for name in NAMES] == list(last.values())
    assert len(set(NAMES)) == 40


@pytest.mark.parametrize("name", NAMES)
def test_the_level_draws_what_minigrid_draws(name: str) -> None:
    real = gymnasium.make(registered(name)).unwrapped
    for seed in range(3):
        real.reset(seed=seed)
        ours = make(name, seed)
        assert np.array_equal(ours.grid.encode(), real.grid.encode())  # type: ignore[attr-defined]
        assert ours.mission == real.mission  # type: ignore[attr-defined]
        assert ours.pose == (*map(int, real.agent_pos), int(real.agent_dir))  # type: ignore[attr-defined]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    real = gymnasium.make(registered("Unlock"))
    for seed in range(30):
        real.reset(seed=seed)
    assert "Sampling rejected" in capfd.readouterr().out, "these seeds must meet a rejected layout"
    for seed in range(30):
        make("Unlock", seed)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["GoToLocalS8N7", "GoToObjMazeS7", "BossLevel", "MoveTwoAcrossS8N9"])
def test_light_falls_as_minigrids_does(name: str) -> None:
    for seed in range(10):
        level = make(name, seed)
        _, lit = level.gen_obs_grid()
        theirs = {(6 - j, i - 3) for i in range(7) for j in range(7) if lit[i, j]}
        assert set(visible(level, level.pose).values()) == {one for one in theirs if _on_grid(level, one)}


def _on_grid(level: Quiet, offset: tuple[int, int]) -> bool:
    """Whether what is so many cells ahead and to the right is a cell; minigrid's light falls beyond them too."""
    (x, y, direction), (ahead, right) = level.pose, offset
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    column, row = x + dx * ahead - dy * right, y + dy * ahead + dx * right
    return 0 <= column < level.width and 0 <= row < level.height


@given(st.sampled_from(SPLITS), st.integers(0, 2**20).map(lambda seed: seed * 40 + 3))
def test_a_scenario_is_in_its_split_by_what_it_holds(split: str, seed: int) -> None:
    found = layout(split, seed)
    assert found.level == NAMES[seed % 40]
    assert digest_of(content(make(found.level, found.seed))) == found.digest
    assert split_of(found.digest) == split
    assert turns_of_expert(found.level, found.seed) is not None


def _hashes(count: int) -> list[set[str]]:
    return [{layout(split, seed).digest for seed in range(count)} for split in SPLITS]


def test_no_scenario_is_in_two_splits() -> None:
    hashes = _hashes(40)
    assert len(set.union(*hashes)) == sum(map(len, hashes)) == 120


@pytest.mark.slow
def test_no_scenario_is_in_two_splits_of_three_hundred_and_twenty() -> None:
    hashes = _hashes(320)
    assert len(set.union(*hashes)) == sum(map(len, hashes))
    assert all(len(one) > 310 for one in hashes)


def test_the_scenarios_stay_what_they_are() -> None:
    """Results are compared over months: a change of numpy, minigrid or the expert that moves them must be seen."""
    found = digest_of([[layout(split, seed).digest for seed in range(40)] for split in SPLITS])
    assert found.startswith("55352186afa64348")


@pytest.mark.parametrize("name", ["GoToObjS6", "SynthS5R2"])
def test_a_turned_grid_is_the_same_scenario(name: str) -> None:
    for seed in range(10):
        turned = make(name, seed)
        x, y, direction = turned.pose
        turned.grid = turned.grid.rotate_left()
        turned.agent_pos, turned.agent_dir = (y, turned.width - 1 - x), (direction - 1) % 4
        turned.width, turned.height = turned.height, turned.width
        assert observe(turned) == observe(make(name, seed))
        assert content(turned) == content(make(name, seed))


def test_every_part_of_a_layout_counts() -> None:
    changed = [make("UnlockLocalDist", 0) for _ in range(7)]
    cells = [cell for cell in changed[1].grid.grid if cell is not None]
    door: Any = next(cell for cell in cells if cell.type == "door")
    door.is_locked = False
    changed[2].mission = "open the window"
    changed[3].agent_dir = (changed[3].agent_dir + 1) % 4
    changed[4].instrs.strict = True
    changed[5].carrying = next(cell for cell in changed[5].grid.grid if cell is not None and cell.type == "key")
    x, y, _ = changed[6].pose
    changed[6].grid.set(x, y, next(cell for cell in cells if cell.type == "key"))
    assert len({digest_of(content(level)) for level in changed}) == 7


def test_a_key_in_a_box_counts() -> None:
    one, other = make("KeyInBox", 0), make("KeyInBox", 0)
    next(cell for cell in one.grid.grid if cell is not None and cell.type == "box").contains = None
    assert content(one) != content(other)


def test_the_table_has_a_line_for_each_level(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--count", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert lines[0] == "GoToRedBallGrey           1 of 1,  1.00 turns"
