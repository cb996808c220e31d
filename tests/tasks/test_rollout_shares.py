"""How many episodes may fail: large shards are judged alone, small ones with what their round has stored so far."""

from __future__ import annotations

from typing import Any

import pytest

from rl.errors import TransientError
from tasks.carry import Lease
from tasks.rollout import from_rollout
from tests.gateway.conftest import world
from tests.tasks.rollout_double import WINDOW, Model, every, refusal, walks
from tests.tasks.rows import claimed, one
from tests.tasks.test_rollout import Make, make, make_due
from tests.tasks.test_rollout_failures import is_of

__all__ = ["make", "world"]


def refuses(*seeds: int) -> Model:
    """Walks, but in these scenarios."""

    def says(body: dict[str, Any]) -> Any:
        return refusal(400, "no") if any(is_of(body, seed) for seed in seeds) else walks(body)

    return says


@pytest.mark.parametrize("order", [1, -1])
def test_a_scenario_that_always_fails_is_recorded_however_small_its_shard(make: Make, order: int) -> None:
    round_ = make(refuses(0), scenarios=5, shard=1)
    failed = [round_.play(job_id)["failed"] for job_id in round_.jobs[::order]]
    assert failed == [2, 0, 0, 0, 0][::order]
    assert (round_.state(), len(round_.stored())) == ("collected", 8)


def test_a_small_shard_that_fails_whole_is_recorded_where_the_round_goes_well(make: Make) -> None:
    round_ = make(refuses(0, 1), scenarios=6, shard=2)
    assert [round_.play(job_id)["failed"] for job_id in reversed(round_.jobs)] == [0, 0, 4]
    assert round_.state() == "collected"


def test_small_shards_of_a_round_that_fails_are_tried_again(make: Make) -> None:
    round_ = make(refuses(*range(8)), scenarios=8, shard=2)
    first, second, *others = round_.jobs
    assert round_.play(first)["failed"] == 4, "two scenarios say nothing of the round"
    told = rf"^8 of 8 episodes of the round so far failed \(engine 4\); {WINDOW}/[23]/[01]/fence-1: .*400: no$"
    with pytest.raises(TransientError, match=told):
        round_.play(second)
    assert len(round_.quarantined()) == 4
    round_.engine.model = walks
    make_due(second)
    assert [round_.play(job_id)["failed"] for job_id in (second, *others)] == [0, 0, 0]
    assert (round_.state(), round_.episodes()) == ("collected", every(8, 2)[4:])


def test_what_a_small_shard_of_a_failing_round_did_play_is_kept(make: Make) -> None:
    round_ = make(refuses(0, 1, 2, 3), scenarios=5, shard=3)
    round_.play(round_.jobs[0])
    round_.engine.model = refuses(3)
    with pytest.raises(TransientError, match=r"^8 of 10 episodes of the round"):
        round_.play(round_.jobs[1])
    assert round_.episodes() == ["4/0", "4/1"]


def test_a_round_of_few_scenarios_is_judged_whole(make: Make) -> None:
    round_ = make(refuses(0, 1), scenarios=2)
    with pytest.raises(TransientError, match=r"^4 of 4 episodes of the round"):
        round_.play(round_.jobs[0])
    assert (round_.state(), round_.quarantined()) == ("closed", [])


def test_a_round_of_which_every_episode_failed_is_skipped(make: Make) -> None:
    round_ = make(refuses(0), scenarios=1)
    assert round_.play(round_.jobs[0])["failed"] == 2
    reason = one("select reason from rlfleet.windows where name = :name", name=WINDOW)[0]
    assert (round_.state(), reason) == ("skipped", "all 2 episodes failed; the quarantine says why")


def test_a_large_shard_is_given_up_while_it_is_played(make: Make) -> None:
    round_ = make(refuses(*range(4)), scenarios=8, shard=4, concurrency=1)
    round_.play(round_.jobs[1])
    claim = claimed(round_.jobs[0])
    with pytest.raises(TransientError, match=r"^5 of 8 episodes failed"):
        from_rollout(claim, Lease(claim, 60))
    assert len(round_.engine.asked) < 100, "not all of it"
