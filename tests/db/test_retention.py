"""Each clause of the rule by a case of its own, and what goes once it lets go."""

from __future__ import annotations

import pytest

from db import lines, windows
from db.session import transaction
from rl.windows import round_of
from tests.conftest_database import released
from tests.db.kept import (
    HOUR,
    NEXT,
    add_window,
    episode,
    frozen,
    job,
    left,
    old,
    recent,
    removed,
    run,
    set_state,
    version,
    weeks,
)
from tests.db.trained import start_run

pytestmark = pytest.mark.usefixtures("without_weeks")


def test_a_window_of_long_ago_goes_with_all_that_its_trajectories_said() -> None:
    window = old("a", "b")
    assert left() == {"a", "b"}
    assert removed() == {
        "windows": 1,
        "weeks": 1,
        "call keys": 2,
        "judgements": 1,
        "explanations": 2,
        "feedback": 2,
        "outcomes": 2,
    }
    assert left() == set()
    state, at, reason = run("select state, removed_at, reason from rlfleet.windows where id = :id", id=window)[0]
    assert (state, reason) == ("skipped", "removed before all of it was trained on")
    assert run("select trajectory_id, erased_at from rlfleet.trajectory_keys order by 1") == [("a", at), ("b", at)]
    assert run("select score, cost from rlfleet.scores") == [(0.5, 0.25), (0.5, 0.25)]
    assert run("select answer, cost from rlfleet.judgements") == [({"erased": True}, 0.25)]
    assert removed() == {}


def test_a_line_that_does_not_say_how_long_keeps_all() -> None:
    old("a", days=None)
    assert removed() == {}
    assert left() == {"a"}


@pytest.mark.parametrize(("days_ago", "stays"), [(29, True), (31, False)])
def test_the_days_count_from_the_windows_end(days_ago: float, stays: bool) -> None:
    recent("a", days_ago=days_ago)
    removed()
    assert left() == ({"a"} if stays else set())


@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_window_that_was_not_collected_stays(state: str) -> None:
    old("a", state=state)
    assert removed() == {}


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("kind", ["collect", "score", "train"])
def test_a_job_that_names_the_window_holds_it_until_it_ends(kind: str, state: str) -> None:
    old("a")
    named = {"windows": [NEXT, HOUR]} if kind == "train" else {"window": HOUR}
    holder = job(kind, state, **named)
    assert removed() == {}
    set_state(holder, "succeeded")
    removed()
    assert left() == set()


@pytest.mark.parametrize("state", ["failed", "dead", "cancelled"])
def test_a_job_that_waits_in_vain_holds_nothing_until_the_other_runs_again(state: str) -> None:
    old("a")
    collect = job("collect", "queued", window=NEXT)
    job("train", windows=[HOUR, NEXT])
    run("update rlfleet.jobs set after = array[:first] where kind = 'train'", first=collect)
    assert removed() == {}
    set_state(collect, state)
    removed()
    assert left() == set()


def test_a_job_of_another_line_or_window_holds_nothing() -> None:
    old("a")
    old(line="other", days=None)
    job("score", line="other", window=HOUR)
    job("score", window=NEXT)
    removed()
    assert left() == set()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_reads_a_dataset_with_the_window_holds_it(state: str) -> None:
    holder, _ = frozen(old("a"), state)
    assert removed() == {}
    set_state(holder, "failed")
    removed()
    assert left() == set()


@pytest.mark.parametrize(
    ("state", "decided", "stays"),
    [("candidate", False, True), ("ready", False, True), ("ready", True, False), ("rejected", False, False)],
)
def test_a_version_holds_its_windows_until_it_is_decided_on(state: str, decided: bool, stays: bool) -> None:
    made = version(frozen(old("a"))[0], state)
    if decided:
        decide(made.id)
    removed()
    assert left() == ({"a"} if stays else set())


def decide(version_id: int) -> None:
    run(
        """insert into rlfleet.decisions (line_id, job_id, fence, version_id, policy, released, reason, evidence)
           values (1, :job, 1, :version, 'p', true, 'r', '{}')""",
        job=job("decide", "succeeded"),
        version=version_id,
    )


def test_what_is_released_and_its_parent_hold_their_windows_and_nothing_older() -> None:
    windows_of = [old(name, window=f"2025-01-15T1{n}:00") for n, name in enumerate("abcd")]
    made: list[int] = []
    for window in windows_of:
        made.append(version(frozen(window)[0], "ready", parent=made[-1] if made else None).id)
        decide(made[-1])
    release(made[2])
    removed()
    assert left() == {"b", "c"}
    release(made[3])
    removed()
    assert left() == {"c"}


def release(version_id: int, stage: str = "stable") -> None:
    with transaction() as session:
        line = lines.named(session, "main").id
        if stage == "stable":
            released(session, line, version_id, 100, "released by a test")
    if stage == "canary":
        run(
            """insert into rlfleet.releases (line_id, version_id, decision_id, stage, share, reason)
               select 1, :id, max(id), 'canary', 10, 'r' from rlfleet.decisions""",
            id=version_id,
        )


def test_a_canary_holds_its_windows_until_it_ends() -> None:
    made = version(frozen(old("a"))[0], "ready")
    decide(made.id)
    release(made.id, "canary")
    assert removed() == {}
    run("update rlfleet.releases set ended_at = now()")
    removed()
    assert left() == set()


def test_a_run_holds_what_it_began_from_and_its_rounds_until_it_ends() -> None:
    base = version(frozen(old("a"))[0], "ready")
    decide(base.id)
    with transaction() as session:
        started = start_run(session, base, rounds=1)
    played = round_with("played", started)
    chained = version(frozen(played)[0], "rejected")
    assert chained.parent_id is None
    assert removed() == {}
    run("update rlfleet.runs set state = 'paused'")
    assert removed() == {}
    with transaction() as session:
        lines.end_run(session, started, "finished", "better")
    removed()
    assert left() == {"played"}  # a round is as old as the end of its run
    run("update rlfleet.runs set finished_at = now() - interval '31 days'")
    removed()
    assert left() == set()


def round_with(name: str, run_id: int) -> int:
    """The run's only round, opened long ago, with a trajectory."""
    run("update rlfleet.windows set starts_at = '2025-01-15T12:00Z' where run_id = :id", id=run_id)
    with transaction() as session:
        line = lines.named(session, "main")
        return add_window(session, line, round_of("demo", 1).text, episode(name), run_id=run_id)


def test_a_version_of_a_run_that_goes_on_holds_hours_too() -> None:
    hour = old("a")
    base = version(frozen(hour)[0], "ready")
    decide(base.id)
    with transaction() as session:
        started = start_run(session, base, rounds=1)
        played = windows.named(session, 1, round_of("demo", 1).text).id
    made, dataset = frozen(old("b", window=NEXT))
    run("insert into rlfleet.dataset_windows values (:dataset, :window)", dataset=dataset, window=played)
    version(made, "rejected")
    assert removed() == {}
    run("update rlfleet.runs set state = 'stopped' where id = :id", id=started)
    removed()
    assert left() == set()


def test_windows_without_trajectories_are_not_said_to_be_removed() -> None:
    empty = old(state="skipped")
    removed()
    assert run("select removed_at from rlfleet.windows where id = :id", id=empty) == [None]


def test_a_row_that_comes_later_still_goes_with_the_next_pass() -> None:
    window = old("a")
    removed()
    at = run("select removed_at from rlfleet.windows where id = :id", id=window)
    assert weeks() == set()
    old("a", "late")
    assert run("select trajectory_id from rlfleet.trajectories") == ["late"]
    removed()
    assert run("select trajectory_id from rlfleet.trajectories") == []
    assert run("select removed_at from rlfleet.windows where id = :id", id=window) == at
