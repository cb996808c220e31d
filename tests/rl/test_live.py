from __future__ import annotations

import pytest

from rl.contrast import Reward
from rl.errors import InvalidInput
from rl.live import Seen, looked
from rl.release_plan import Plan, held_at
from rl.sequential import Attempts, Rules
from rl.stages import Stage, Stages

PLAN = Plan(stages=Stages(stages=(Stage(share=10, min_rewards=20, tolerance=0.15), Stage(share=50), Stage(share=100))))


def rewards(canary: float, stable: float, agents: int = 40, n: int = 10, stage: int = 0) -> list[Reward]:
    """``n`` rewards of each agent in one hour, of this mean; every second agent is the canary's."""
    return [
        Reward(stage, stage, f"agent-{i}", i % 2 == 0, n * (canary if i % 2 == 0 else stable), n) for i in range(agents)
    ]


def test_rewards_are_counted_in_this_stage_and_altogether() -> None:
    both = rewards(0.5, 0.5, agents=4, n=3) + rewards(0.5, 0.5, agents=4, n=5, stage=1)
    seen = Seen(hours=2.5, requests=7, rewards={"reward": both, "rating": both}, here=frozenset({1}))
    progress = looked(seen, PLAN, 1).progress
    assert progress.model_dump() == {
        "stage": 1,
        "hours": 2.5,
        "requests": 7,
        "rewards": 10,
        "rewards_altogether": 16,
    }


def test_an_equal_canary_goes_on_and_no_further_than_half() -> None:
    seen = Seen(hours=25, requests=200, rewards={"reward": rewards(0.5, 0.5)}, here=frozenset({0}))
    look = looked(seen, PLAN, 0)
    assert (look.step.action, look.step.share, look.following) == ("advance", 50, PLAN.stages.stages[1])
    assert looked(seen, PLAN, 1).step.action == "hold"


def test_a_worse_one_is_rolled_back_whatever_the_stage() -> None:
    mixed = [*rewards(0.2, 0.6), Reward(0, 0, "agent-0", True, 1.0, 1), Reward(0, 0, "agent-1", False, 0.0, 1)]
    for place in range(3):
        step = looked(Seen(hours=0, requests=0, rewards={"reward": mixed}), PLAN, place).step
        assert (step.action, step.cause, step.share) == ("roll back", "worse", 0)


def test_without_rewards_it_starves_once_its_time_is_over() -> None:
    young, old = (looked(Seen(hours=hours, requests=1000), PLAN, 0) for hours in (23.9, 24.0))
    assert (young.step.action, young.is_starving) == ("hold", False)
    assert (old.step.action, old.is_starving) == ("hold", True)
    assert "no reward of either version has come" in old.step.reason


def test_what_is_held_stays_until_a_person_ends_it_unless_it_is_worse() -> None:
    plan = held_at(30, Rules())
    better = looked(Seen(hours=99, requests=999, rewards={"reward": rewards(0.9, 0.5)}), plan, 0)
    assert better.verdict.say == "promote"
    assert (better.step.action, better.step.share) == ("hold", 30)
    assert better.step.reason.startswith("it keeps its share until a person ends the test; reward 0.9 in 200 rewards")
    failing = Seen(hours=1, requests=50, attempts=[Attempts((25, 50), (1, 500))] * 3)
    assert looked(failing, plan, 0).step.cause == "failing"


def test_a_place_that_the_plan_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give an index below 3"):
        looked(Seen(hours=1, requests=1), PLAN, 3)
