"""What a scrape says of releases, of calls, and of rewards by version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import controls, partitions
from db.session import transaction
from db.tables import Checkpoint, Line, Version
from rl.release_plan import Plan
from tests.admin.test_metrics import scrape, value
from tests.conftest_database import add_line as line_of
from tests.conftest_database import add_version
from tests.db import traffic
from tests.tasks.rows import add_scored, rows


def test_releases_and_their_traffic(viewer: httpx.Client) -> None:
    partitions.ensure([datetime.now(UTC) - timedelta(hours=1)])
    with transaction() as session:
        line, stable, canary = traffic.start(session, Plan(), hours=0.5)
        moment = traffic.hours_ago(session, 0.25)
        for number in range(3):
            traffic.call(session, f"t{number}", canary.name, moment)
        traffic.fail(session, canary.name, moment)
        share = session.scalar(text("select share from rlfleet.releases where stage = 'canary' and ended_at is null"))
    found = scrape(viewer)
    about = {"line": line.name, "version": canary.name}
    usual = value(found, "rlfleet_release_share_ratio", stage="stable", line=line.name, version=stable.name)
    assert usual == pytest.approx(1 - float(share or 0) / 100), "the canary's agents come out of the stable version's"
    shown = value(found, "rlfleet_release_share_ratio", stage="canary", **about)
    assert shown == pytest.approx(float(share or 0) / 100)
    assert value(found, "rlfleet_version_calls_last_hour", **about) == 3
    assert value(found, "rlfleet_version_call_failures_last_hour", **about) == 1
    assert 1800 <= (value(found, "rlfleet_canary_unwatched_seconds", **about) or 0) < 1900
    assert value(found, "rlfleet_canary_unwatched_seconds", line=line.name, version=stable.name) is None


def shares(client: httpx.Client) -> dict[tuple[str, str], float]:
    """By (stage, version), those of the line main."""
    found = scrape(client).items()
    about = {labels: share for (name, labels), share in found if name == "rlfleet_release_share_ratio"}
    return {(dict(one)["stage"], dict(one)["version"]): share for one, share in about.items()}


def stable_and_canary(session: Session) -> tuple[Line, Version, Version, Version]:
    """A line with a stable version, a canary of 10 per cent, and a version that has no release."""
    line, stable, canary = traffic.start(session, Plan(), hours=0.5)
    session.execute(text("update rlfleet.releases set share = 10 where stage = 'canary'"))
    return line, stable, canary, add_version(session, line)


def test_shares_are_those_that_agents_get(viewer: httpx.Client) -> None:
    with transaction() as session:
        line, stable, canary, third = stable_and_canary(session)
        line_id, ids = line.id, [one.id for one in (stable, canary, third)]
        first, second, other = (one.name for one in (stable, canary, third))
    assert shares(viewer) == pytest.approx({("stable", first): 0.9, ("canary", second): 0.1})
    expected = [
        {("stable", first): 1, ("canary", second): 0},
        {("stable", first): 0, ("canary", second): 1},
        {("stable", first): 0, ("canary", second): 0, ("pinned", other): 1},
    ]
    for version_id, share in zip(ids, expected, strict=True):
        with transaction() as session:
            controls.pin(session, line_id, version_id, "a test", "a test")
        assert shares(viewer) == share
    with transaction() as session:
        controls.kill(session, line_id, True, "a test", "a test")
    assert shares(viewer) == {("stable", first): 0, ("canary", second): 0}


def test_rounds_of_a_run_do_not_hide_how_a_version_does_for_agents(viewer: httpx.Client) -> None:
    partitions.ensure([datetime.now(UTC) - timedelta(hours=1)])
    with transaction() as session:
        line, stable, _ = traffic.start(session, Plan(), hours=0.5)
        moment = traffic.hours_ago(session, 0.25)
        for agent in ("rollout-run/demo/0001", "h", None):
            traffic.call(session, f"of {agent}", stable.name, moment, agent)
            traffic.fail(session, stable.name, moment, agent=agent)
        about = {"line": line.name, "version": stable.name}
    found = scrape(viewer)
    assert value(found, "rlfleet_version_calls_last_hour", **about) == 2
    assert value(found, "rlfleet_version_call_failures_last_hour", **about) == 2


def test_rewards_of_the_last_hour_by_version(viewer: httpx.Client) -> None:
    with transaction() as session:
        line = line_of(session)
        version = add_version(session, line)
        session.execute(
            Checkpoint.__table__.update().values(metrics={"tokens_per_second": 1234.5})  # type: ignore[attr-defined]
        )
        line_id, name = line.id, version.name
    hour = (datetime.now(UTC) - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    add_scored(line_id, f"{hour:%Y-%m-%dT%H:00}", 0.0, 1.0, 1.0)
    rows("update rlfleet.windows set ends_at = starts_at + interval '1 hour' returning 1")
    with transaction() as session:
        at = session.scalar(text("select at from rlfleet.trajectories limit 1"))
        for place in (1, 2):
            traffic.call(session, f"{line_id}/{hour:%Y-%m-%dT%H:00}/{place}", name, at)
    found = scrape(viewer)
    assert value(found, "rlfleet_reward_mean_last_hour", line="main", version=name) == 1
    assert value(found, "rlfleet_rewarded_trajectories_last_hour", line="main", version=name) == 2
    assert value(found, "rlfleet_reward_mean_last_hour", line="main", version="") == 0
    assert value(found, "rlfleet_trajectories_last_day", line="main") == 3
    assert value(found, "rlfleet_training_tokens_per_second", line="main", version=name) == 1234.5
    assert value(found, "rlfleet_windows", line="main", state="scored") == 1
    rows(
        """update rlfleet.trajectories set details = details || '{"reward": null}', reward = 0
            where trajectory_id = :id or trajectory_id = :unnamed returning 1""",
        id=f"{line_id}/{hour:%Y-%m-%dT%H:00}/1",
        unnamed=f"{line_id}/{hour:%Y-%m-%dT%H:00}/0",
    )
    found = scrape(viewer)
    assert value(found, "rlfleet_reward_mean_last_hour", line="main", version=name) == 1, "no reward is not 0"
    assert value(found, "rlfleet_rewarded_trajectories_last_hour", line="main", version=name) == 1
    assert value(found, "rlfleet_reward_mean_last_hour", line="main", version="") is None
