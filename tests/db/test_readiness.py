from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import dispatch, lines, readiness, readiness_settings, trajectories, windows
from db.session import transaction
from db.tables import Line
from rl.config import LineConfig
from rl.errors import InvalidSettings
from rl.readiness import Stats, Thresholds
from rl.records import Quarantined
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
