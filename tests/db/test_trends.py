from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from admin.pages import overview
from db import job_pages, job_views, jobs, partitions, trajectories, trends, windows
from db.session import transaction
from rl.config import TaskSet
from rl.held_out import LoggedSet
from rl.records import Trajectory
from rl.windows import hour_of
from tests.db import chains
from tests.tasks import rows

pytestmark = pytest.mark.usefixtures("fresh")


def test_trajectories_and_rewards_by_hour() -> None:
    moment = datetime.now(UTC)
    partitions.ensure([moment - timedelta(hours=60), moment])
    with transaction() as session:
        line = chains.add_line(session)
        for back, rewards in {0: [1.0], 1: [None], 2: [0.0, 0.5, None], 60: [9.0]}.items():
            hour = hour_of(moment - timedelta(hours=back))
            assert hour.hour is not None
            several = [
                Trajectory(
                    trajectory_id=f"{back}/{n}",
                    scenario_id="s",
                    agent_id="a",
                    started_at=hour.hour,
                    ended_at=hour.hour,
                    reward=reward or 0.0,
                    calls=[],
                    metadata={"reward": None} if reward is None else {},
                )
                for n, reward in enumerate(rewards)
            ]
            window = windows.ensure(session, line.id, hour)
            trajectories.insert_trajectories(session, line.id, window, "a test", several)
        found = trends.hours(session, line.id, 5)
    known = {one.at: (one.trajectories, one.reward, one.rewarded) for one in found if one.trajectories}
    first, second, last = (hour_of(moment - timedelta(hours=back)).hour for back in (2, 1, 0))
    assert len(found) == 5
    assert known == {first: (3, 0.25, 2), second: (1, None, 0), last: (1, 1.0, 1)}
    assert {one.reward for one in found if not one.trajectories} == {None}
    assert overview._by_hour(found)["mean"] == 0.5, "of the three that have a reward"


def test_versions_are_shown_on_the_sets_that_most_were_judged_on() -> None:
    usual, rare, lone = (TaskSet(environment="gridworld", split="held_out", count=count) for count in (20, 30, 40))
    with transaction() as session:
        line = chains.add_line(session)
        made = [chains.add_version(session, line) for _ in range(4)]
        for version, k in zip(made[:3], (5, 10, 15), strict=True):
            chains.judge(session, version, 4, {"reach": (k, 20)}, usual)
        for version in made[1:3]:
            chains.judge(session, version, 4, {"reach": (3, 30)}, rare)
        chains.judge(session, made[0], 4, {"reach": (1, 40)}, lone)
        common, other = trends.judged(session, line.id)
    assert common.versions == [one.name for one in made[:3]], "who was never judged is left out"
    assert [(one.k, one.n) for one in common.counts if one] == [(5, 20), (10, 20), (15, 20)]
    assert all(one and one.low < one.k / one.n < one.high for one in common.counts)
    assert other.task_set["count"] == 30
    assert [one and one.k for one in other.counts] == [None, 3, 3]


def test_of_sets_with_as_many_versions_the_newest_is_first_and_one_that_chooses_is_last() -> None:
    with transaction() as session:
        line = chains.add_line(session)
        choosing = chains.VALIDATION
        made = [chains.add_version(session, line) for _ in range(6)]
        for day, version in enumerate(made):
            since, until = f"2025-01-{10 + day}T00:00", f"2025-01-{11 + day}T00:00"
            logs = LoggedSet(split="held_out", since=since, until=until, share=0.1, salt="", count=30, verifier="m:f")
            chains.judge(session, version, 4, {"A": (day, 10)}, choosing)
            chains.judge(session, version, 4, {"A": (day, 10)}, logs)
        found = trends.judged(session, line.id)
    assert [one.task_set["since"][:10] for one in found] == ["2025-01-15", "2025-01-14"]
    assert [bool(one) for one in found[0].counts] == [False] * 5 + [True]


def test_a_line_without_versions_has_no_trend() -> None:
    with transaction() as session:
        assert trends.judged(session, chains.add_line(session).id) == []


def test_a_job_page_has_its_curves_and_the_summary_does_not() -> None:
    line = rows.add_line()
    asked = rows.asked(line, kind="train", inputs={"windows": ["2025-01-15T10:00"]}, queue="gpu")
    curves = {"step": [1, 2], "loss": [0.5, 0.25]}
    jobs.heartbeat(rows.claimed(asked), 60, {"step": 2, "total": 4, "curves": curves})
    with transaction() as session:
        found = job_pages.detail(session, asked)
        of_window = job_pages.of_window(session, line, "2025-01-15T10:00")
        assert job_pages.of_window(session, line, "2025-01-15T11:00") == ([], 0)
        assert job_pages.detail(session, 999) is None
        times = job_pages.times(session, [asked, 999])
    assert found is not None
    assert (found.curves, found.owner, found.queue, found.devices, found.max_attempts) == (
        curves,
        "a test",
        "gpu",
        [],
        3,
    )
    assert found.times == times[asked]
    assert found.times.started_at is not None
    assert ([one.job_id for one in of_window[0]], of_window[1]) == ([asked], 1)
    summary = job_views.summary(asked)
    assert summary is not None
    assert summary.progress == {"step": 2, "total": 4}
