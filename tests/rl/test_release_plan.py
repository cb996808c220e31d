from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.errors import InvalidInput
from rl.release_plan import Plan, held_at
from rl.sequential import Rules


@pytest.mark.parametrize(
    ("share", "expected"), [(100, [10, 50, 100]), (40, [4, 20, 40]), (5, [1, 2, 5]), (1, [1, 1, 1])]
)
def test_the_stages_are_parts_of_what_the_line_gives_its_versions(share: int, expected: list[int]) -> None:
    plan = Plan(share=share)
    assert [plan.of_agents(stage.share) for stage in plan.stages.stages] == expected


@given(share=st.integers(1, 100), stage=st.integers(1, 100))
def test_a_canary_has_agents_and_never_more_than_the_line_gives(share: int, stage: int) -> None:
    assert 1 <= Plan(share=share).of_agents(stage) <= share


def test_a_plan_is_stored_whole() -> None:
    plan = Plan(rules=Rules(margin=-0.05), share=40)
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize("share", [0, 101])
def test_a_plan_that_leaves_nobody_is_refused(share: int) -> None:
    with pytest.raises(ValidationError):
        Plan(share=share)


def test_a_test_holds_its_share_and_gives_nothing_up() -> None:
    plan = held_at(30, Rules(alpha=0.01))
    assert (plan.hold, plan.share, plan.rules.alpha, plan.stages.give_up_rewards) == (True, 100, 0.01, None)
    assert plan.of_agents(plan.stages.stages[0].share) == 30


@pytest.mark.parametrize("share", [0, 100, -1])
def test_a_test_needs_agents_of_both_versions(share: int) -> None:
    with pytest.raises(InvalidInput, match="a test needs agents of both versions"):
        held_at(share, Rules())
