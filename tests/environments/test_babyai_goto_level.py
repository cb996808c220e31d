# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minigrid.envs.babyai.goto import GoToLocal

from environments.babyai.goto_level import Level, content_hash, layout
from environments.babyai.goto_text import observe
from environments.dealing import split_of

SPLITS = ("train", "validation", "held_out")


def test_the_level_draws_what_minigrid_draws() -> None:
    real = GoToLocal(room_size=6, num_dists=4, max_steps=64)
    for seed in range(100):
        real.reset(seed=seed)
        ours = Level(seed)
        assert np.array_equal(ours.grid.encode(), real.grid.encode())
        assert ours.mission == real.mission
        assert ours.pose == (*map(int, real.agent_pos), int(real.agent_dir))


def test_rejected_layouts_are_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    real = GoToLocal(room_size=6, num_dists=4, max_steps=64)
    for seed in range(40):
        real.reset(seed=seed)
    assert "Sampling rejected" in capfd.readouterr().out, "these seeds must meet a rejected layout"
    for seed in range(40):
        Level(seed)
    assert capfd.readouterr() == ("", "")


@given(st.sampled_from(SPLITS), st.integers(0, 2**40))
def test_a_scenario_is_in_its_split_by_what_it_holds(split: str, seed: int) -> None:
    minigrid_seed, digest = layout(split, seed)
    assert content_hash(Level(minigrid_seed)) == digest
    assert split_of(digest) == split


def test_the_first_byte_of_the_hash_decides() -> None:
    assert [split_of(byte + "0" * 62) for byte in ("00", "7f", "80", "bf", "c0", "ff")] == [
        *("train", "train"),
        *("validation", "validation"),
        *("held_out", "held_out"),
    ]


def test_no_scenario_is_in_two_splits() -> None:
    hashes = {split: {layout(split, seed)[1] for seed in range(300)} for split in SPLITS}
    assert [len(hashes[split]) for split in SPLITS] == [300, 300, 300]
    assert len(set.union(*hashes.values())) == 900


def test_the_scenarios_stay_what_they_are() -> None:
    """Results are compared over months: a change of numpy or minigrid that moves the scenarios must be seen."""
    assert [layout(split, 0)[1][:16] for split in SPLITS] == [
        "21d40861cfe60749",
        "b129158620e4500a",
        "df7985f111b33c9f",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_turned_room_is_the_same_scenario(seed: int) -> None:
    turned = Level(seed)
    x, y, direction = turned.pose
    turned.grid = turned.grid.rotate_left()
    turned.agent_pos, turned.agent_dir = (y, turned.height - 1 - x), (direction - 1) % 4
    assert observe(turned) == observe(Level(seed))
    assert content_hash(turned) == content_hash(Level(seed))


def test_every_part_of_a_layout_counts() -> None:
    changed = [Level(0) for _ in range(5)]
    changed[1].mission = "go to the grey sofa"
    changed[2].agent_dir = (changed[2].agent_dir + 1) % 4
    x, y, _ = next(changed[3].objects())
    changed[3].grid.set(x, y, None)
    x, y, _ = next(changed[4].objects())
    cell = changed[4].grid.get(x, y)
    assert cell is not None
    cell.color = "pink"
    assert len({content_hash(level) for level in changed}) == 5
