# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

import random

import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot

from environments.babyai.deeds import act, choices
from environments.babyai.expert import advise
from environments.babyai.layouts import turns_of_expert
from environments.babyai.levels import NAMES, make
from environments.babyai.moves import Mission
from environments.babyai.quiet import Quiet
from environments.babyai.sight import front, look

PRIMITIVES = ("turn left", "turn right", "move forward", "pick up", "drop", "toggle")

UNKNOWN_TO_THE_BOT = {"PutNextS7N4Carrying", "KeyInBox"}
"""Minigrid says so."""
TOO_FAR = {"MoveTwoAcrossS8N9": 4, "SynthSeq": 1, "BossLevel": 1, "BossLevelNoUnlock": 1, "OpenDoorsOrderN4Debug": 3}
"""Levels whose first layout is out of the expert's reach, and the seed of one that is not."""


def _spoken(level: Quiet, primitive: int) -> str:
    """One of minigrid's primitive actions as a reply."""
    if PRIMITIVES[primitive] != "pick up":
        return PRIMITIVES[primitive]
    return f"pick up {next(seen.label for seen in look(level) if seen.cell == front(level.pose))}"


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNKNOWN_TO_THE_BOT))
def test_what_minigrids_own_bot_does_can_be_said_and_completes_the_mission(name: str) -> None:
    level = make(name, TOO_FAR.get(name, 0))
    bot = BabyAIBot(level)
    primitive, mission, steps = bot.replan(None), Mission.OPEN, 0
    while mission is Mission.OPEN and steps < 300:
        mission, note = act(level, _spoken(level, int(primitive)))
        assert note == ""
        primitive, steps = bot.replan(primitive), steps + 1
    assert mission is Mission.DONE
    turns = turns_of_expert(name, TOO_FAR.get(name, 0))
    assert turns is not None
    assert turns <= steps


def test_a_sequence_of_strict_doors_is_lost_to_everybody() -> None:
    """Minigrid asks the second part about the very toggle that completed the first, and finds the wrong door open."""
    level = make("OpenDoorsOrderN4Debug", 1)
    assert level.mission == "open the yellow door, then open the green door"
    assert act(level, "toggle and go through yellow door 1").mission is Mission.LOST


def test_a_key_locked_away_with_its_door_is_not_dealt_out() -> None:
    assert turns_of_expert("GoToImpUnlock", 6) is None
    assert advise(make("GoToImpUnlock", 6)) == "turn left"


def test_the_expert_finds_back_from_whatever_was_done() -> None:
    chance, solved, tried = random.Random(1), 0, 0
    for index in range(120):
        name, seed = NAMES[index % 40], chance.randrange(2**31)
        level, mission = make(name, seed), Mission.OPEN
        if turns_of_expert(name, seed) is None:
            continue
        for _ in range(chance.randrange(1, 15)):
            if mission is Mission.OPEN:
                mission = act(level, chance.choice(choices(level))).mission
        if mission is not Mission.OPEN:
            continue
        for _ in range(60):
            if mission is Mission.OPEN:
                mission = act(level, advise(level)).mission
        solved, tried = solved + (mission is Mission.DONE), tried + 1
    assert tried > 60
    assert solved >= 0.95 * tried


def test_what_is_carried_is_reached_where_it_was() -> None:
    """The verifier knows a thing by its place at the start of the mission."""
    level = make("GoToLocalS8N7", 0)
    ball = next(seen for seen in look(level) if seen.thing.type != "door")
    level.instrs.desc.obj_poss = [ball.cell]
    level.grid.set(*ball.cell, None)
    level.carrying = ball.thing
    mission, turns = Mission.OPEN, 0
    while mission is Mission.OPEN and turns < 20:
        mission, turns = act(level, advise(level)).mission, turns + 1
    assert mission is Mission.DONE
