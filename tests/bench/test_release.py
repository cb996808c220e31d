"""The benchmark of releases: its sums are those of the rule, its numbers those of its trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import release
from bench.release import Trial, play, quantiles, report, summary
from bench.release_traffic import AGENTS, LAST_HOUR, Traffic, World
from rl.contrast import Reward, Rewards, contrast

ROOT = Path(__file__).parents[2]


def _known(traffic: Traffic, trial: int) -> Rewards:
    """The rows of one trial's rewards, as a release would read them."""
    rows = []
    for cohort in traffic.cohorts:
        known = cohort.served & (cohort.delay <= traffic.now - cohort.hour)
        for agent in np.flatnonzero(known[trial]).tolist():
            is_canary, total = bool(cohort.is_canary[trial, agent]), float(cohort.reward[trial, agent])
            rows.append(Reward(int(cohort.stage[trial]), cohort.hour, str(agent), is_canary, total))
    return Rewards.of(rows)


def test_the_sums_of_many_trials_are_those_of_each() -> None:
    traffic = Traffic(World(difference=-0.1), 3, np.random.default_rng(0))
    for hour in range(LAST_HOUR):
        stage = np.array([0, int(hour > 5), 0])
        traffic.hour(stage, np.where(stage == 0, 10, 50))
    found = traffic.known()
    for trial in range(3):
        expected = contrast(_known(traffic, trial))
        sums = [expected.gain, expected.information, *expected.observed, *expected.assigned]
        assert found.contrast()[:, trial] == pytest.approx(sums)
        units = np.count_nonzero(found.canary_units[trial]), np.count_nonzero(found.stable_units[trial])
        assert units == (expected.canary.units, expected.stable.units)
        assert (found.canary_n[trial], found.stable_n[trial]) == (expected.canary.n, expected.stable.n)


def test_what_is_over_stays_counted_and_trials_can_be_left_out() -> None:
    traffic = Traffic(World(), 2, np.random.default_rng(1))
    for _ in range(LAST_HOUR + 8):
        (_, canary), (_, stable) = traffic.hour(np.array([0, 0]), np.array([10, 10]))
    assert (canary + stable < AGENTS).all()
    assert len(traffic.cohorts) == LAST_HOUR + 1
    before = traffic.known()
    traffic.keep(np.array([False, True]))
    assert traffic.known().contrast()[:, 0] == pytest.approx(before.contrast()[:, 1])
    assert traffic.known().stable_n[0] == before.stable_n[1] > 0


def test_a_worse_version_is_rolled_back_before_half() -> None:
    trials = play(release.WORLDS["worse by 15 points"], 6, [0, 0])
    assert [(trial.outcome, trial.share) for trial in trials] == [("worse", 10)] * 6
    assert all(0 < trial.rewards < trial.seen for trial in trials)


def test_trials_repeat() -> None:
    one, other = (play(release.WORLDS["worse by 15 points"], 3, [7, 1]) for _ in range(2))
    assert [(trial.hours, trial.seen, trial.reason) for trial in one] == [
        (trial.hours, trial.seen, trial.reason) for trial in other
    ]


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantiles([4.0, 1.0, 3.0, 2.0, 5.0]) == {"p50": 3.0, "p90": 5.0}
    assert quantiles([]) == {"p50": None, "p90": None}


def _ended(outcome: str, stage: int) -> Trial:
    return Trial(stage=stage, outcome=outcome, seen=100, rewards=10, served=5, all_served=50, hours=9)


@pytest.mark.parametrize(
    ("promoted", "late", "failing", "passed"),
    [(5, 5, 5, True), (6, 5, 5, False), (5, 6, 5, False), (5, 5, 6, False)],
    ids=["kept", "promoted", "late", "for one agent"],
)
def test_three_bounds_decide(promoted: int, late: int, failing: int, passed: bool) -> None:
    alone = [_ended("failing", 0)] * failing + [_ended("undecided", 1)] * (100 - failing)
    equal = [_ended("finish", 2)] * promoted + [_ended("undecided", 1)] * (100 - promoted)
    worse = [_ended("worse", 0)] * (100 - late) + [_ended("worse", 1)] * late
    found = report({"equal": equal, "worse by 15 points": worse, release.ALONE: alone})
    assert found["false_rollback"] == failing / 100
    assert (found["false_promotion"], found["rolled_back_in_time"]) == (promoted / 100, (100 - late) / 100)
    assert found["passed"] is passed


def test_a_promotion_is_false_even_if_it_is_taken_back() -> None:
    equal = [_ended("worse", 2)] * 6 + [_ended("undecided", 1)] * 94
    others = {"worse by 15 points": [_ended("worse", 0)], release.ALONE: [_ended("undecided", 1)]}
    assert report({"equal": equal, **others})["passed"] is False


def test_an_agent_that_always_fails_is_left_out_of_the_canarys_requests() -> None:
    trial, nobody = Trial(), np.zeros(AGENTS, np.bool_)
    first, both, ten = nobody.copy(), nobody.copy(), nobody.copy()
    first[3], both[[3, 7]], ten[:10] = True, True, True
    for lost in (first, both, both):
        release._count(trial, lost, ten, (1, 90))
    assert (trial.most, trial.failures.canary, trial.failures.stable) == (3, (5, 30), (3, 270))
    assert trial.failures.others == (2, 27)
    seventh = nobody.copy()
    seventh[7] = True
    for _ in range(2):
        release._count(trial, seventh, ten, (1, 90))
    assert (trial.most, trial.failures.canary, trial.failures.others) == (7, (7, 50), (3, 45))


def test_an_agent_that_always_fails_works_in_every_hour_whoever_answers() -> None:
    traffic = Traffic(World(one_fails=1.0), 50, np.random.default_rng(0))
    for _ in range(3):
        traffic.hour(np.zeros(50, np.int64), np.full(50, 10))
        lost, made = traffic.of_canary
        assert (lost[:, 0] == (traffic.place[:, 0] < 0.1)).all()
        assert (lost <= made).all()
        assert not (made & (traffic.place >= 0.1)).any()


def test_a_summary_counts_ends() -> None:
    found = summary([_ended("worse", 0), _ended("", 1), _ended("finish", 2), _ended("finish", 2)])
    assert found["ends"] == {"finish": 0.5, "goes on": 0.25, "worse": 0.25}
    assert (found["reached_half"], found["given_100"]) == (0.75, 0.5)
    assert found["rollback_rewards"] == {"p50": 100.0, "p90": 100.0}
    assert found["rollback_share_of_requests"] == {"p50": 0.1, "p90": 0.1}


@pytest.mark.slow
def test_a_quick_run_passes(tmp_path: Path) -> None:
    file = tmp_path / "release.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.release", "--quick", "--seed", "3", "--json", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{file}\n"
    outcome = json.loads(file.read_bytes())
    assert (outcome["schema"], outcome["seed"], outcome["quick"], outcome["passed"]) == (1, 3, True, True)
    assert outcome["worlds"]["equal"]["trials"] == 200
    assert outcome["false_promotion_of_a_plain_test"] > outcome["false_promotion"]
