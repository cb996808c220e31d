from __future__ import annotations

import pytest
from pydantic import ValidationError

from rl.errors import InvalidInput
from rl.sequential import Cause, Failures, Say, Verdict
from rl.stages import Progress, Stage, Stages, step

STAGES = Stages()


def _said(say: Say, cause: Cause | None = None, lower: float | None = None) -> Verdict:
    return Verdict(say=say, cause=cause, reason=f"it says {say}", lower=lower, evidence=[], failures=Failures())


def _at(stage: int, hours: float = 24, requests: int = 100, rewards: int = 100, altogether: int = 100) -> Progress:
    return Progress(stage=stage, hours=hours, requests=requests, rewards=rewards, rewards_altogether=altogether)


def test_the_shares_are_10_50_100() -> None:
    assert [stage.share for stage in STAGES.stages] == [10, 50, 100]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("cause", ["worse", "failing"])
def test_a_rollback_waits_for_nothing(stage: int, cause: Cause) -> None:
    done = step(STAGES, _at(stage, hours=0, requests=0, rewards=0), _said("roll back", cause))
    assert (done.action, done.share, done.cause, done.reason) == ("roll back", 0, cause, "it says roll back")


@pytest.mark.parametrize(
    ("progress", "missing"),
    [
        (_at(0, hours=23.99), "23.9 of 24 hours"),
        (_at(0, requests=99), "99 of 100 requests"),
        (_at(0, rewards=99), "99 of 100 rewards"),
        (_at(0, hours=0, requests=1, rewards=0), "0 of 24 hours, 1 of 100 requests, 0 of 100 rewards"),
    ],
)
def test_a_stage_has_its_time_and_traffic(progress: Progress, missing: str) -> None:
    done = step(STAGES, progress, _said("promote", "better", 0.1))
    assert (done.action, done.share) == ("hold", 10)
    assert done.reason == f"at 10 %: {missing}; it says promote"


def test_the_first_stage_ends_when_much_worse_is_ruled_out() -> None:
    held = step(STAGES, _at(0), _said("continue", lower=-0.15))
    assert (held.action, held.reason) == ("hold", "at 10 %: it may be worse by 0.15 or more; it says continue")
    assert step(STAGES, _at(0), _said("continue")).action == "hold"
    done = step(STAGES, _at(0), _said("continue", lower=-0.149))
    assert (done.action, done.share, done.reason) == ("advance", 50, "10 % to 50 %: it says continue")


def test_the_whole_traffic_is_for_what_is_better() -> None:
    held = step(STAGES, _at(1), _said("continue", lower=-0.001))
    assert (held.action, held.share) == ("hold", 50)
    assert held.reason == "at 50 %: more than that needs a canary that is shown to be better; it says continue"
    done = step(STAGES, _at(1), _said("promote", "better", 0.01))
    assert (done.action, done.share) == ("advance", 100)


def test_at_the_whole_traffic_it_finishes_once_soaked() -> None:
    assert step(STAGES, _at(2, hours=23, rewards=0), _said("promote", "better", 0.01)).action == "hold"
    for verdict in (_said("promote", "better", 0.01), _said("continue", lower=-0.001)):
        done = step(STAGES, _at(2, rewards=0, altogether=9000), verdict)
        assert (done.action, done.share, done.cause) == ("finish", 100, None)


def test_who_is_not_shown_to_be_better_ends_as_undecided() -> None:
    done = step(STAGES, _at(1, altogether=5000), _said("continue", lower=-0.01))
    assert (done.action, done.share, done.cause) == ("roll back", 0, "undecided")
    assert done.reason == "not shown to be better in 5,000 rewards; it says continue"
    assert step(STAGES, _at(1, altogether=4999), _said("continue", lower=-0.01)).action == "hold"
    assert step(STAGES, _at(1, altogether=5000), _said("promote", "better", 0.01)).action == "advance"
    patient = STAGES.model_copy(update={"give_up_rewards": None})
    assert step(patient, _at(1, altogether=10**9), _said("continue", lower=-0.01)).action == "hold"


def test_without_rewards_it_holds_for_ever() -> None:
    for stage in (0, 1):
        done = step(STAGES, _at(stage, hours=10**6, requests=10**9, rewards=0, altogether=0), _said("wait"))
        assert (done.action, done.share) == ("hold", STAGES.stages[stage].share)
        assert done.reason.endswith("0 of 100 rewards; it says wait")
    blind = Stages(stages=(Stage(share=10, tolerance=0.1), Stage(share=50)))
    assert step(blind, _at(0, rewards=0), _said("wait")).action == "hold"
    assert step(blind, _at(1, rewards=0), _said("wait")).action == "hold"


def test_without_a_tolerance_a_stage_needs_no_evidence_of_its_own() -> None:
    stages = Stages(stages=(Stage(share=5), Stage(share=10), Stage(share=100)))
    assert step(stages, _at(0), _said("wait")).action == "advance"
    assert step(stages, _at(1), _said("wait")).action == "hold"


def test_a_way_that_ends_before_100_finishes_with_what_is_better() -> None:
    stages = Stages(stages=(Stage(share=20),))
    assert step(stages, _at(0), _said("continue", lower=-0.01)).action == "hold"
    done = step(stages, _at(0), _said("promote", "better", 0.01))
    assert (done.action, done.share) == ("finish", 100)


@pytest.mark.parametrize("shares", [(), (50, 10), (10, 10)])
def test_shares_grow(shares: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="each greater than the one before"):
        Stages(stages=tuple(Stage(share=share) for share in shares))


def test_there_is_no_stage_beyond_the_last() -> None:
    with pytest.raises(InvalidInput, match="stage = 3: give an index below 3"):
        step(STAGES, _at(3), _said("continue"))
