from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.readiness import READY, Stats, Thresholds, readiness, shortage

ENOUGH = Stats(total=120, scored=100, unscored=20, groups=10, quality=0.95, hours_since=20.0)
STARVED = Stats(total=1000, scored=0, unscored=1000, groups=0, quality=0.5, hours_since=1.0)


def changed(**fields: object) -> Stats:
    return ENOUGH.model_copy(update=fields)


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        (ENOUGH, "Ready to train!"),
        (STARVED, "Need 100 more trajectories"),
        (changed(scored=99, unscored=10_000), "Need 1 more trajectories"),
        (changed(groups=9, quality=0.1), "Need more scenario groups (9/10 minimum)"),
        (changed(quality=0.9321, hours_since=0.0), "Data quality too low (93.2% < 95%)"),
        (changed(quality=0.94999), "Data quality too low (94.9% < 95%)"),
        (changed(hours_since=18.04), "Need 2 more hours since the last training"),
        (changed(hours_since=19.99), "Need 0.1 more hours since the last training"),
        (changed(quality=None), "Ready to train!"),
        (changed(hours_since=None), "Ready to train!"),
    ],
)
def test_the_first_that_is_missing_is_the_reason(stats: Stats, reason: str) -> None:
    found = readiness(stats, Thresholds())
    assert (found.ready, found.reason, found.stats) == (reason == READY, reason, stats)


@pytest.mark.parametrize(
    ("objective", "ready"),
    [("sft", True), ("weighted_sft", True), ("grpo", False), ("dpo", False), (None, False)],
)
def test_only_objectives_that_compare_ask_for_groups(objective: str | None, ready: bool) -> None:
    assert readiness(changed(groups=0), Thresholds(), objective).ready is ready


def test_thresholds_are_configurable_and_strict() -> None:
    low = Thresholds(min_trajectories=1, min_groups=0, min_quality=0, min_hours_between=0)
    assert readiness(Stats(total=1, scored=1, quality=0.0, hours_since=0.0), low).ready
    assert readiness(ENOUGH, Thresholds(min_quality=0.975)).reason == "Data quality too low (95% < 97.5%)"
    with pytest.raises(ValidationError, match="min_trajectory"):
        Thresholds.model_validate({"min_trajectory": 1})


@given(
    st.integers(0, 300),
    st.integers(0, 30),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 100),
    st.sampled_from(["sft", "grpo"]),
)
def test_more_of_everything_never_makes_it_unready(
    scored: int, groups: int, quality: float | None, hours: float | None, objective: str
) -> None:
    stats = Stats(total=scored, scored=scored, groups=groups, quality=quality, hours_since=hours)
    more = Stats(
        total=scored + 1,
        scored=scored + 1,
        groups=groups + 1,
        quality=None if quality is None else min(1.0, quality + 0.01),
        hours_since=None if hours is None else hours + 1,
    )
    if readiness(stats, Thresholds(), objective).ready:
        assert readiness(more, Thresholds(), objective).ready


@pytest.mark.parametrize(
    ("groups", "objective", "reason"),
    [
        ({"a": 2, "b": 2}, "grpo", None),
        (
            {"a": 3},
            "grpo",
            "Need more usable trajectories (3/4): 7 not scored, 2 below, 1 x, 1 more left out",
        ),
        ({"a": 4, "b": 1}, "grpo", "Need more usable scenario groups (1/2): "),
        ({"a": 4, "b": 1}, "sft", None),
    ],
)
def test_what_a_training_would_not_use_does_not_count(
    groups: dict[str, int], objective: str, reason: str | None
) -> None:
    least = Thresholds(min_trajectories=4, min_groups=2)
    reasons = {"x": 1, "not scored": 7, "below": 2, "y": 1}
    found = shortage(groups, reasons, least, objective)
    assert found == reason or (reason is not None and found is not None and found.startswith(reason))


def test_without_a_reason_the_other_windows_wait_for_scores() -> None:
    expected = "Need more usable trajectories (0/100): the other windows are yet to be scored"
    assert shortage({}, {}, Thresholds(), "sft") == expected
