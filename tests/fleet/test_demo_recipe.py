"""The demo's configs: what they ask for can be decided, also when a few verdicts are missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.demo import recipe
from rl.config import Release
from rl.decidable import check_run
from rl.promotion import decide
from rl.verdicts import Verdicts


@pytest.mark.parametrize(("size", "fewest"), [(recipe.Size(), 200), (recipe.QUICK, 36)])
def test_up_to_5_percent_of_the_verdicts_may_be_missing(size: recipe.Size, fewest: int) -> None:
    config = recipe.run(size, 3, "demo")
    check_run(config)
    assert config.release.min_scenarios == fewest
    assert Release().min_scenarios == 200, "a line of one's own has the default"
    judged = {f"s{place}": 1.0 for place in range(math.ceil(0.95 * size.held_out))}
    verdicts = Verdicts(candidate={"babyai": judged}, stable={"babyai": dict.fromkeys(judged, 0.0)})
    assert decide(verdicts, config.release).released
    fewer = dict(list(judged.items())[: fewest - 1])
    assert not decide(verdicts.model_copy(update={"candidate": {"babyai": fewer}}), config.release).released


@given(st.integers(1, 1000))
def test_a_demo_of_any_size_can_be_decided(held_out: int) -> None:
    check_run(recipe.run(recipe.Size(held_out=held_out), 3, "demo"))
