from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import dispatch, held_out, jobs, lines, partitions, readiness, readiness_settings, trajectories, windows
from db.session import transaction
from db.tables import Line
from rl.config import GrpoTrain, LineConfig, Optimizer
from rl.errors import InvalidSettings
from rl.readiness import Stats, Thresholds
from rl.records import ON_PURPOSE_REASONS, ON_PURPOSE_SOURCES, Quarantined
from tests.conftest_database import add_line
from tests.db.test_lineage import HOUR, NEXT, add_window, episode, fill, judged
from tests.db.trained import add_version


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def test_an_empty_line_has_nothing_to_hold_against_it(session: Session) -> None:
    assert readiness.stats_of(session, add_line(session).id) == Stats()


def test_scored_and_not_yet_trained_ones_count(session: Session) -> None:
    line = add_line(session)
    window = add_window(session, line, HOUR, [episode(one) for one in ("a1", "a2", "b1", "b2", "c1")])
    trajectories.insert_scores(session, [judged(one, 1.0) for one in ("a1", "a2", "b1", "c1")])
    bad = [Quarantined(source="f", row=str(n), field="reward", reason="x") for n in range(3)]
    trajectories.insert_quarantine(session, line.id, window, bad)
    expected = Stats(total=5, scored=4, unscored=1, groups=1, quality=0.625)
    assert readiness.stats_of(session, line.id) == expected
    assert readiness.stats_of(session, line.id, 1).groups == 3
    for state in ("trained", "skipped"):
        windows.move(session, window, state)
        assert readiness.stats_of(session, line.id) == Stats()


def test_groups_do_not_reach_over_windows(session: Session) -> None:
    line = add_line(session)
    for name, one in ((HOUR, "a1"), (NEXT, "a2")):
        add_window(session, line, name, [episode(one)])
    trajectories.insert_scores(session, [judged(one, 1.0) for one in ("a1", "a2")])
    found = readiness.stats_of(session, line.id)
    assert (found.scored, found.groups) == (2, 0)


def test_what_a_version_learned_from_does_not_count_again(session: Session) -> None:
    version, _ = fill(session)
    window = windows.named(session, version.line_id, HOUR)
    windows.move(session, window.id, "scored")
    trajectories.insert_scores(session, [judged("c1", 0.1)])
    found = readiness.stats_of(session, version.line_id)
    assert (found.total, found.scored, found.unscored, found.trained, found.groups) == (4, 1, 0, 3, 0)


def test_rows_of_over_a_week_ago_say_nothing_of_the_quality(session: Session) -> None:
    line = add_line(session)
    window = add_window(session, line, HOUR, [episode("a1"), episode("a2")])
    bad = [Quarantined(source="f", row=str(n), field="reward", reason="x") for n in range(2)]
    trajectories.insert_quarantine(session, line.id, window, bad)
    session.execute(text("update rlfleet.quarantine set created_at = now() - interval '8 days' where row = '0'"))
    assert readiness.stats_of(session, line.id).quality == pytest.approx(2 / 3, abs=1e-15)
    session.execute(text("update rlfleet.trajectories set created_at = now() - interval '8 days'"))
    assert readiness.stats_of(session, line.id).quality == 0.0


def test_hours_count_from_the_newest_version_that_no_run_made(session: Session) -> None:
    line = add_line(session)
    old, _ = add_version(session, line, HOUR), add_version(session, line, "run/demo/0001")
    session.execute(
        text("update rlfleet.versions set created_at = now() - interval '90 minutes' where id = :id"), {"id": old.id}
    )
    assert readiness.stats_of(session, line.id).hours_since == 1.5


def test_another_line_counts_for_itself(session: Session) -> None:
    fill(session)
    assert readiness.stats_of(session, add_line(session, "other").id) == Stats()


def test_readiness_of_a_line_names_what_is_missing(session: Session) -> None:
    line = add_line(session)
    add_window(session, line, HOUR, [episode("a1"), episode("a2")])
    trajectories.insert_scores(session, [judged(one, 1.0) for one in ("a1", "a2")])
    assert readiness.readiness_of(session, line).reason == "Need 98 more trajectories"
    few = Thresholds(min_trajectories=2)
    assert readiness.readiness_of(session, line, few).reason == "Need more scenario groups (1/10 minimum)"
    assert readiness.readiness_of(session, line, few.model_copy(update={"min_groups": 1})).ready


@pytest.fixture
def pair(session: Session) -> Line:
    """A line with a group of two scored ones."""
    line = add_line(session)
    add_window(session, line, HOUR, [episode("a1"), episode("a2")])
    trajectories.insert_scores(session, [judged(one, 1.0) for one in ("a1", "a2")])
    return line


def test_the_environment_sets_what_the_line_does_not(
    session: Session, pair: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_MIN_TRAJECTORIES", "3")
    monkeypatch.setenv("TRAINING_MIN_GROUPS", "1")
    assert readiness.readiness_of(session, pair).reason == "Need 1 more trajectories"
    pair.config = pair.config | {"readiness": {"min_trajectories": 2}}
    assert readiness.readiness_of(session, pair).ready
    monkeypatch.setenv("TRAINING_MIN_GROUP_SIZE", "3")
    assert readiness.readiness_of(session, pair).reason == "Need more scenario groups (0/1 minimum)"
    pair.config = pair.config | {"readiness": {"min_trajectories": 2, "min_group_size": 2}}
    assert readiness.readiness_of(session, pair).ready


def test_a_line_may_set_what_is_built_in_against_the_environment(
    session: Session, pair: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_MIN_TRAJECTORIES", "1")
    config = LineConfig(base_model="b", readiness=Thresholds(min_trajectories=100))
    lines.put(session, "main", config)
    session.refresh(pair)
    assert pair.config["readiness"] == {"min_trajectories": 100}
    assert readiness.readiness_of(session, pair).reason == "Need 98 more trajectories"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINING_MIN_TRAJECTORIES", "0"),
        ("TRAINING_MIN_GROUPS", "-1"),
        ("TRAINING_MIN_QUALITY", "95"),
        ("TRAINING_MIN_HOURS_BETWEEN", "a day"),
    ],
)
def test_a_threshold_that_cannot_be_used_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as caught:
        readiness_settings.thresholds()
    assert (caught.value.field, caught.value.value) == (name, value)


def test_a_variable_that_is_set_to_nothing_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_MIN_GROUPS", "")
    monkeypatch.setenv("TRAINING_MIN_QUALITY", "0.5")
    found = readiness_settings.thresholds()
    assert (found.min_groups, found.min_quality, found.model_fields_set) == (10, 0.5, {"min_quality"})


def test_a_window_that_is_to_be_trained_on_waits_no_longer(session: Session, pair: Line) -> None:
    spec = dispatch.Spec("train", pair.id, {"windows": [HOUR]}, {}, "gpu")
    job = dispatch.request(session, spec)
    assert readiness.stats_of(session, pair.id) == Stats(quality=1.0)
    session.execute(text("update rlfleet.jobs set state = 'failed' where id = :id"), {"id": job})
    assert readiness.stats_of(session, pair.id).scored == 2


def test_rows_that_were_left_out_on_purpose_say_nothing_of_the_quality(session: Session) -> None:
    line = add_line(session)
    window = add_window(session, line, HOUR, [episode("a1"), episode("a2"), episode("a3")])
    told = [(source, "y") for source in sorted(ON_PURPOSE_SOURCES)]
    told += [("babylon", reason) for reason in sorted(ON_PURPOSE_REASONS)] + [("babylon", "not JSON")]
    rows = [Quarantined(source=source, row=source + why, field="f", reason=why) for source, why in told]
    trajectories.insert_quarantine(session, line.id, window, rows)
    assert len(rows) == 8
    assert readiness.stats_of(session, line.id).quality == 0.75


def test_a_training_that_waits_in_vain_takes_nothing_away(session: Session, pair: Line) -> None:
    collect = dispatch.request(session, dispatch.Spec("collect", pair.id, {"window": NEXT}, {}, "collect"))
    dispatch.request(session, dispatch.Spec("train", pair.id, {"windows": [HOUR, NEXT]}, {}, "gpu", (collect,)))
    assert readiness.stats_of(session, pair.id).scored == 0
    session.execute(text("update rlfleet.jobs set state = 'dead' where id = :id"), {"id": collect})
    assert readiness.stats_of(session, pair.id).scored == 2


GRPO = GrpoTrain(optimizer=Optimizer(learning_rate=1e-3))
FEW = Thresholds(min_trajectories=4, min_groups=2, min_quality=0.0, min_hours_between=0.0)


@pytest.fixture
def equal(session: Session) -> Line:
    """A line that compares, with two groups of two, all with one score."""
    lines.put(session, "main", LineConfig(base_model="b", train=GRPO, readiness=FEW))
    line = lines.named(session, "main")
    names = ("a1", "a2", "b1", "b2")
    add_window(session, line, HOUR, [episode(one) for one in names])
    trajectories.insert_scores(session, [judged(one, 0.5) for one in names])
    return line


def test_what_the_freeze_would_not_use_is_not_ready(session: Session, equal: Line) -> None:
    expected = "Need more usable trajectories (0/4): 4 its group has no variance: all 2 scores are 0.5"
    assert readiness.readiness_of(session, equal).reason == expected
    trajectories.insert_scores(session, [judged(one, 1.0, "2") for one in ("a1", "b1")])
    assert readiness.readiness_of(session, equal).ready
    windows.move(session, windows.named(session, equal.id, HOUR).id, "collected")
    expected = "Need more usable trajectories (0/4): the other windows are yet to be scored"
    assert readiness.readiness_of(session, equal).reason == expected


def test_a_training_that_failed_is_not_asked_for_again_before_something_is_scored(fresh: str) -> None:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="b", train=GRPO, readiness=FEW))
        line = lines.named(session, "main")
        for name, first in ((HOUR, "ab"), (NEXT, "cd")):
            names = [f"{letter}{n}" for letter in first for n in range(2)]
            add_window(session, line, name, [episode(one) for one in names])
            trajectories.insert_scores(session, [judged(one, float(one[1])) for one in names])
        spec = dispatch.Spec("train", line.id, {"windows": [HOUR]}, GRPO.model_dump(mode="json"), "gpu")
        job = dispatch.request(session, spec)
    claim = jobs.claim(job, "a test", 60)
    assert claim is not None
    jobs.fail(claim, "OffPolicyRefused: no", retry=False)
    expected = f"Need new scores, or `rlfleet jobs requeue {job}`: job {job} failed on what waits"
    assert _reason() == expected
    with transaction() as session:
        other = json.dumps(GRPO.model_dump(mode="json") | {"steps": 77})
        session.execute(text("update rlfleet.jobs set config = cast(:other as jsonb)"), {"other": other})
    assert _reason() == "Ready to train!", "another config may do better"
    with transaction() as session:
        same = json.dumps(GRPO.model_dump(mode="json"))
        session.execute(text("update rlfleet.jobs set config = cast(:same as jsonb)"), {"same": same})
    assert _reason() == expected
    with transaction() as session:
        trajectories.insert_scores(session, [judged("d0", 0.25, "2")])
    assert _reason() == "Ready to train!"


def _reason() -> str:
    with transaction() as session:
        return readiness.readiness_of(session, lines.named(session, "main")).reason


def test_only_the_weeks_of_the_windows_that_wait_are_read(fresh: str) -> None:
    began = datetime(2025, 1, 15, 10, tzinfo=UTC)
    partitions.ensure([began + timedelta(days=7 * n) for n in range(-3, 4)])
    with transaction() as session:
        line = add_line(session)
        add_window(session, line, HOUR, [episode("a1"), episode("a2")])
        values: dict[str, Any] = {"line_id": line.id, "min_group_size": 1} | readiness.ON_PURPOSE
        values |= held_out.values_of(None)
        values |= session.execute(text(readiness.SPAN), values).one()._asdict()
        assert (values["since"], values["until_lately"]) == (began, began)
        for query in (readiness.WAITING, readiness.LATELY):
            plan = "\n".join(session.scalars(text("explain " + query), values))
            named = [one for one in (f"trajectories_2025w{n:02}" for n in range(1, 53)) if one in plan]
            assert named == ["trajectories_2025w03"]
