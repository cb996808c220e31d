"""What is held out is in no dataset, what was trained on is at no decision point, and both by the same hash."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import datasets, dispatch, freezing, held_out, lines, readiness, trajectories, versions, withdrawals
from db.session import transaction
from db.tables import Line, Version
from rl.config import LineConfig
from rl.held_out import HeldOut, LoggedSet, is_held_out, sets_of
from rl.readiness import Thresholds
from rl.records import Call, Message, Trajectory
from rl.redaction import Redaction
from rl.scoring import by_reward
from tests.db.test_lineage import HOUR, NEXT, add_window

SFT = {"objective": "sft", "lora": {"rank": 4}}
NAMES = [f"s{number:02}" for number in range(30)]
NOTHING = Redaction()


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def held(**values: Any) -> HeldOut:
    return HeldOut(**({"share": 0.4, "salt": "x", "hours": 2, "verifier": "m:f"} | values))


def put(session: Session, setting: HeldOut | None, **more: Any) -> Line:
    lines.put(session, "main", LineConfig(base_model="b", held_out=setting, **more))
    session.flush()
    line = lines.named(session, "main")
    session.refresh(line)
    return line


def call(name: str, turn: int = 0, **values: Any) -> Call:
    given: dict[str, Any] = {
        "messages": [Message(role="system", content="You trade."), Message(role="user", content=f"Turn {turn}?")],
        "response": Message(role="assistant", content=f"said by {name}"),
    }
    return Call(call_id=f"{name}/{turn}", turn=turn, model="gpt-4o", **(given | values))


def episode(name: str, scenario: str, *calls: Call, **values: Any) -> Trajectory:
    moment = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
    given: dict[str, Any] = {"started_at": moment, "ended_at": moment, "agent_id": "a", "reward": 0.5} | values
    return Trajectory(trajectory_id=name, scenario_id=scenario, calls=list(calls) or [call(name)], **given)


def fill(session: Session, line: Line, name: str = HOUR, names: list[str] = NAMES, several: int = 2) -> int:
    """A scored window with so many trajectories of each scenario."""
    hour = name[11:13]
    found = [episode(f"{one}-{hour}-{n}", one) for one in names for n in range(several)]
    window = add_window(session, line, name, found)
    trajectories.insert_scores(session, [by_reward(one.trajectory_id, 0.5) for one in found])
    return window


def trained(session: Session, line: Line, *names: str, parent: int | None = None) -> Version:
    """A version that learned from what a training takes of the windows."""
    job = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": names, "parent": parent}, SFT, "gpu"))
    dataset = freezing.freeze(session, line, job, names, SFT)
    assert datasets.rows_of(session, dataset.id)
    return versions.add(
        session,
        line=line,
        prefix="main",
        job_id=job,
        fence=1,
        checkpoints=[versions.NewCheckpoint(1, "adapter", "/a", "/base", "0" * 64, {})],
        parent_id=parent,
        base_model="b",
        manifest={},
    )


def learned(session: Session, version: Version) -> set[str]:
    """The scenarios that the version learned from."""
    query = """
        select distinct t.scenario_id from rlfleet.dataset_trajectories d
          join rlfleet.datasets o on o.id = d.dataset_id join rlfleet.trajectories t using (trajectory_id)
         where o.job_id = :job
    """
    return set(session.scalars(text(query), {"job": version.job_id}))


def of(setting: HeldOut, *hours: str) -> LoggedSet:
    return sets_of(hours or (HOUR,), setting, "logged")[1]


def scenarios(found: list[held_out.Point]) -> list[str]:
    return [one.scenario_id for one in found]


def test_the_database_holds_out_what_the_pure_rule_does(session: Session) -> None:
    names = [f"scenario {number}" for number in range(300)] + ["", "ä", "日本", "a'b\\c", "%"]
    query = text(f"select scenario_id, {held_out.IS_HELD_OUT} from unnest(cast(:names as text[])) as t(scenario_id)")  # noqa: S608
    for share, salt in ((0.1, ""), (0.5, "Salz ü"), (1 / 3, "x"), (0.999, "'")):
        found: dict[str, bool] = dict(session.execute(query, {"names": names, "share": share, "salt": salt}).all())
        assert found == {name: is_held_out(name, share, salt) for name in names}
    assert not any(found for _, found in session.execute(query, {"names": names} | held_out.values_of(None)))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(0.01, 0.95),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
    st.data(),
)
def test_datasets_and_decision_points_are_disjoint_whatever_the_share(
    fresh: str, share: float, salt: str, data: Any
) -> None:
    setting = held(share=share, salt=salt)
    with transaction() as session:
        session.execute(text("truncate rlfleet.lines, rlfleet.trajectories restart identity cascade"))
        line = put(session, setting)
        fill(session, line)
        ids = {row.trajectory_id for row in trajectories.of_windows(session, [1])}
        usable = freezing.usable_of(session, line, [1], SFT)
        kept = {one.row.scenario_id for one in usable.kept}
        asked = held_out.points(session, line.id, of(setting), [], NOTHING)
        assert kept.isdisjoint(scenarios(asked))
        assert kept | set(scenarios(asked)) == set(NAMES)
        assert len(usable.kept) + usable.reasons.get("held out for evaluation", 0) == len(ids)


def test_what_is_held_out_is_counted_where_trajectories_are_promised(session: Session) -> None:
    setting = held()
    line = put(
        session, setting, train={"objective": "sft", "steps": 1, "optimizer": {"learning_rate": 1e-3}, "lora": {}}
    )
    fill(session, line)
    kept_out = 2 * sum(is_held_out(one, 0.4, "x") for one in NAMES)
    assert 10 < kept_out < 40
    stats = readiness.stats_of(session, line.id, held=setting)
    assert (stats.total, stats.scored, stats.held_out) == (60 - kept_out, 60 - kept_out, kept_out)
    assert stats.groups == len(NAMES) - kept_out // 2
    least = Thresholds(min_trajectories=60, min_groups=1, min_hours_between=0)
    assert readiness.readiness_of(session, line, least).reason == f"Need {kept_out} more trajectories"
    job = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [HOUR]}, SFT, "gpu"))
    dataset = freezing.freeze(session, line, job, [HOUR], SFT)
    assert dataset.manifest["skipped"] == {"held out for evaluation": kept_out}
    assert dataset.manifest["held_out"] == {"share": 0.4, "salt": "x"}
    assert len(datasets.rows_of(session, dataset.id)) == 60 - kept_out


def test_points_are_the_same_whenever_they_are_asked_for(session: Session) -> None:
    line = put(session, held())
    fill(session, line)
    first = held_out.points(session, line.id, of(held()), [], NOTHING)
    assert first == held_out.points(session, line.id, of(held()), [], NOTHING)
    assert sorted(scenarios(first)) == [one for one in NAMES if is_held_out(one, 0.4, "x")]
    few = held_out.points(session, line.id, of(held(scenarios=5)), [], NOTHING)
    assert few == first[:5]
    assert {one.trajectory.trajectory_id[-1] for one in first} == {"0", "1"}, "drawn, not the first of each"
    assert all(one.call.call_id.startswith(one.trajectory.trajectory_id) for one in first)


def test_only_the_hours_of_the_set_are_looked_at(session: Session) -> None:
    line = put(session, held())
    fill(session, line, HOUR, NAMES[:15])
    fill(session, line, NEXT, NAMES[15:])
    validation, decision = sets_of([HOUR, NEXT], held(), "logged")
    early = scenarios(held_out.points(session, line.id, validation, [], NOTHING))
    late = scenarios(held_out.points(session, line.id, decision, [], NOTHING))
    assert sorted(early) == [one for one in NAMES[:15] if is_held_out(one, 0.4, "x")]
    assert sorted(late) == [one for one in NAMES[15:] if is_held_out(one, 0.4, "x")]


SPEAKING = Message(role="assistant", content="yes")


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({}, True),
        ({"messages": []}, False),
        ({"messages": [Message(role="user", content="?"), SPEAKING]}, False),
        ({"messages": [Message(role="tool", content="3", tool_call_id="t")]}, True),
        ({"response": Message(role="assistant", content=" ")}, False),
        ({"response": Message(role="assistant", reasoning_content="hm")}, False),
        ({"response": Message(role="assistant", tool_calls=[{"function": {"name": "buy"}}])}, True),
    ],
)
def test_a_call_that_another_model_can_be_asked(values: dict[str, Any], fits: bool) -> None:
    assert held_out.can_be_asked(call("a", **values)) is fits


def test_a_scenario_without_such_a_call_in_one_trajectory_is_asked_about_in_another(session: Session) -> None:
    line = put(session, held(share=0.99))
    bad = [episode(f"a{n}", "s", call(f"a{n}", messages=[])) for n in range(7)]
    good = episode("a7", "s", call("a7", messages=[]), call("a7", 1, tools=[{"function": {"name": "buy"}}]))
    add_window(session, line, HOUR, [*bad, good, episode("b", "t", call("b", messages=[]))])
    (found,) = held_out.points(session, line.id, of(held(share=0.99)), [], NOTHING)
    assert (found.call.call_id, found.type) == ("a7/1", "logged")
    assert found.call.tools == [{"function": {"name": "buy"}}]


def test_nobody_is_asked_about_what_was_refused_or_erased(session: Session) -> None:
    line = put(session, held(share=0.99))
    add_window(session, line, HOUR, [episode("a", "s", archetype="trader"), episode("b", "t"), episode("c", "u")])
    session.execute(text("insert into rlfleet.recordings (trajectory_id, line, consent) values ('b', 'main', false)"))
    withdrawals.refuse(session, line.id, "main", ["c"])
    (found,) = held_out.points(session, line.id, of(held(share=0.99)), [], NOTHING)
    assert (found.scenario_id, found.type) == ("s", "trader")


def test_what_the_line_takes_out_of_texts_is_shown_to_nobody(session: Session) -> None:
    line = put(session, held(share=0.99))
    asked = [Message(role="user", content="Write to ann@example.org")]
    said = Message(role="assistant", content="To ann@example.org")
    add_window(session, line, HOUR, [episode("a", "s", call("a", messages=asked, response=said))])
    (found,) = held_out.points(session, line.id, of(held(share=0.99)), [], Redaction(kinds=["email"]))
    assert "ann@" not in found.trajectory.model_dump_json()
    hook = Redaction(hook="tests.redaction_hooks:fail")
    assert held_out.points(session, line.id, of(held(share=0.99)), [], hook) == []


def test_what_a_version_was_trained_on_under_another_share_is_not_asked_about(session: Session) -> None:
    line = put(session, None)
    fill(session, line, HOUR, NAMES[:20])
    first = trained(session, line, HOUR)
    assert learned(session, first) == set(NAMES[:20])
    line = put(session, held(share=0.2))
    fill(session, line, NEXT)
    second = trained(session, line, NEXT, parent=first.id)
    fifth = {one for one in NAMES if is_held_out(one, 0.2, "x")}
    assert learned(session, second) == set(NAMES) - fifth
    larger = held(share=0.6)
    line = put(session, larger)
    most = {one for one in NAMES if is_held_out(one, 0.6, "x")}
    assert fifth < most

    def asked(*ids: int) -> set[str]:
        return set(scenarios(held_out.points(session, line.id, of(larger, NEXT), ids, NOTHING)))

    assert asked() == most
    assert asked(first.id) == most - set(NAMES[:20])
    assert asked(second.id) == fifth - set(NAMES[:20])
    assert held_out.trained_on(session, [second.id], NAMES) == set(NAMES[:20]) | (set(NAMES) - fifth)


def test_it_is_still_known_when_retention_has_removed_the_rows(session: Session) -> None:
    line = put(session, None)
    fill(session, line, HOUR, ["s1", "s 2"], several=1)
    version = trained(session, line, HOUR)
    for table in ("trajectories", "calls", "turns"):
        session.execute(text(f"delete from rlfleet.{table}"))  # noqa: S608
    assert held_out.trained_on(session, [version.id], ["s1", "s 2", "s", "s3", "2"]) == {"s1", "s 2", "s"}
