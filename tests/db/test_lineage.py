from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, datasets, dispatch, lineage, lines, releases, trajectories, versions, window_pages, windows
from db.calls import NewCall
from db.session import transaction
from db.tables import Decision, Line, Version
from rl.errors import InvalidInput, UnknownWindow
from rl.records import Call, Message, Quarantined, Trajectory
from rl.scoring import ScoreRow
from rl.windows import parse
from tests.conftest_database import add_line
from tests.db.trained import add_version

HOUR, NEXT = "2025-01-15T10:00", "2025-01-15T11:00"
SCORES = {"a1": 0.25, "a2": 0.75, "b1": 1.0}


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def episode(name: str, model: str = "gpt-4o") -> Trajectory:
    moment = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
    said = Call(call_id=f"c-{name}", turn=0, model=model, messages=[], response=Message(role="assistant", content="x"))
    where = {"scenario_id": f"s/{name[0]}", "agent_id": f"agent-{name}", "reward": 0.5}
    return Trajectory(trajectory_id=name, started_at=moment, ended_at=moment, calls=[said], **where)


def add_window(session: Session, line: Line, name: str, episodes: list[Trajectory], state: str = "scored") -> int:
    """A window with those trajectories and their calls."""
    window = windows.ensure(session, line.id, parse(name), state=state)
    trajectories.insert_trajectories(session, line.id, window, "jsonl:///logs", episodes)
    for one in episodes:
        new = [calls.NewCall.of(call, trajectory_id=one.trajectory_id, line="main", agent_id="") for call in one.calls]
        calls.insert(session, new)
    return window


def judged(name: str, score: float, version: str = "1") -> dict[str, Any]:
    """A score row of a judge, in a group of its scenario."""
    about: dict[str, Any] = {"rubric_hash": "r" * 64, "judge": "gpt-4o-mini", "cost": 0.125, "explanation": "good"}
    return ScoreRow(name, "judge", version, f"h-{name}", score, compared_in=f"group-{name[0]}", **about).row()


def fill(session: Session) -> tuple[Version, int]:
    """A version trained on three of the four trajectories of ``HOUR``; the stable one. Returns it and its dataset."""
    line = add_line(session)
    parent = add_version(session, line, state="ready")
    window = add_window(session, line, HOUR, [*map(episode, ("b1", "a2", "a1")), episode("c1", "babyl-v9")])
    trajectories.insert_scores(session, [judged(name, score) for name, score in SCORES.items()])
    bad = [Quarantined(source="f", row=str(n), field="reward", reason="must be a number") for n in range(2)]
    trajectories.insert_quarantine(session, line.id, window, bad)
    found = [one for one in trajectories.of_windows(session, [window]) if one.score is not None]
    spec = dispatch.Spec("train", line.id, {"windows": [HOUR]}, {"objective": "weighted_sft"}, "gpu")
    job_id = dispatch.request(session, spec)
    dataset = datasets.freeze(session, line.id, job_id, [window], found, {"windows": [HOUR], "left_out": 1})
    version = versions.add(
        session,
        line=line,
        prefix=lines.prefix_of(line),
        job_id=job_id,
        fence=2,
        checkpoints=[versions.NewCheckpoint(7, "adapter", "/adapter", "/base", "f" * 64, {"loss": 0.5})],
        parent_id=parent.id,
        base_model="random-qwen3",
        manifest={"rows": {"read": 3, "used": 2, "skipped": {"too long": 1}, "named": {}}},
    )
    windows.move(session, window, "trained")
    _decide(session, version, parent)
    return version, dataset.id


def _decide(session: Session, version: Version, parent: Version) -> None:
    job_id = dispatch.request(session, dispatch.Spec("decide", version.line_id, {"candidate": version.name}, {}, "x"))
    decision = Decision(
        line_id=version.line_id,
        job_id=job_id,
        fence=1,
        version_id=version.id,
        stable_id=parent.id,
        policy="by counts",
        released=True,
        reason="better",
        evidence={"k": 1},
    )
    session.add(decision)
    session.flush()
    versions.set_state(session, [version.id], "ready", "better")
    releases.replace_stable(session, version.line_id, version.id, decision.id, 100, "released by a test")


def test_a_version_is_explained_back_to_every_score(session: Session) -> None:
    version, dataset = fill(session)
    found = lineage.explain(session, version.name)
    assert (found.kind, found.line, found.trajectory_count) == ("version", "main", 3)
    made = found.versions[0]
    assert (made["parent"], made["base_model"], made["dataset"]) == ("babylon-agent-v1.0.0", "random-qwen3", dataset)
    assert (made["job_id"], made["config"]["objective"], made["sha256"]) == (version.job_id, "weighted_sft", "f" * 64)
    assert [(one["trajectory_id"], one["group"], one["score"]) for one in found.trajectories] == [
        ("a1", f"{HOUR} s/a judge group-a", 0.25),
        ("a2", f"{HOUR} s/a judge group-a", 0.75),
        ("b1", f"{HOUR} s/b judge group-b", 1.0),
    ]
    first = found.trajectories[0]
    score = [first[name] for name in ("method", "method_version", "judge", "rubric_hash", "cost", "compared_in")]
    assert score == ["judge", "1", "gpt-4o-mini", "r" * 64, 0.125, "group-a"]
    assert (first["agent_id"], first["source"], first["models"]) == ("agent-a1", "jsonl:///logs", ["gpt-4o"])
    assert found.quarantined == {"must be a number": 2}
    example = {"source": "f", "row": "0"}
    assert found.quarantined_rows == [{"count": 2, "field": "reward", "reason": "must be a number", **example}]
    assert found.left_out == {"not scored, or below min_score": 1, "too long": 1}
    assert [(one["stable"], one["released"]) for one in found.decisions] == [("babylon-agent-v1.0.0", True)]
    assert [(one["version"], one["share"], one["ended_at"]) for one in found.releases] == [(version.name, 100, None)]


def test_rows_that_no_step_took_are_not_what_was_learned_from(session: Session) -> None:
    version, _ = fill(session)
    change = """update rlfleet.versions set manifest = jsonb_set(manifest, '{rows,drawn}', '1') || '{"step": 7}'
                 where id = :id"""
    session.execute(text(change), {"id": version.id})
    session.expire_all()
    left = lineage.explain(session, version.name).left_out
    assert left == {"not scored, or below min_score": 1, "too long": 1, "chosen, and drawn by no step": 1}


def test_a_dataset_and_a_short_name_say_the_same(session: Session) -> None:
    version, dataset = fill(session)
    by_name, by_number = lineage.explain(session, "v1.0.1"), lineage.explain(session, str(dataset))
    assert (by_name.name, by_number.kind, by_number.versions) == (version.name, "dataset", by_name.versions)
    assert (by_number.datasets, by_number.trajectories) == (by_name.datasets, by_name.trajectories)
    assert (by_number.datasets[0]["groups"], len(by_number.datasets[0]["sha256"])) == (2, 64)


def test_a_window_has_newest_scores_and_what_was_trained_on_it(session: Session) -> None:
    version, dataset = fill(session)
    trajectories.insert_scores(session, [judged("a1", 0.5, version="2")])
    found = lineage.explain(session, HOUR)
    scores = {one["trajectory_id"]: (one["score"], one["models"]) for one in found.trajectories}
    assert scores == {
        "a1": (0.5, ["gpt-4o"]),
        "a2": (0.75, ["gpt-4o"]),
        "b1": (1.0, ["gpt-4o"]),
        "c1": (None, ["babyl-v9"]),
    }
    assert (found.trajectory_count, found.left_out) == (4, {"not scored": 1})
    assert [one["id"] for one in found.datasets] == [dataset]
    assert [one["name"] for one in found.versions] == [version.name]
    frozen = lineage.explain(session, version.name).trajectories[0]
    assert (frozen["score"], frozen["method_version"]) == (0.25, "1")


@pytest.mark.parametrize("name", [HOUR, "1", "babylon-agent-v1.0.1"])
def test_long_lists_are_cut_and_counted(session: Session, name: str) -> None:
    fill(session)
    cut, full = lineage.explain(session, name, limit=2), lineage.explain(session, name, limit=None)
    assert cut.trajectories == full.trajectories[:2]
    assert cut.trajectory_count == len(full.trajectories) == (4 if name == HOUR else 3)


def test_an_erased_trajectory_stays_named(session: Session) -> None:
    version, _ = fill(session)
    session.execute(text("delete from rlfleet.trajectories where trajectory_id = 'a1'"))
    session.execute(text("update rlfleet.trajectory_keys set erased_at = '2025-02-01Z' where trajectory_id = 'a1'"))
    first = lineage.explain(session, version.name).trajectories[0]
    assert (first["trajectory_id"], first["erased_at"], first["agent_id"]) == ("a1", "2025-02-01T00:00:00Z", None)


def test_a_version_without_a_dataset_is_explained_too(session: Session) -> None:
    version = add_version(session, add_line(session))
    found = lineage.explain(session, version.name)
    assert ([one["name"] for one in found.versions], found.datasets, found.trajectories) == ([version.name], [], [])


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("99", InvalidInput, "no such dataset; the newest are: 1$"),
        ("9" * 30, InvalidInput, "no such dataset"),
        ("v1.0.7", InvalidInput, "babylon-agent-v1.0.7.*near ones are: babylon-agent-v1.0.1"),
        ("2025-01-15T12:00", UnknownWindow, f"the newest are: {HOUR}"),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(
    session: Session, name: str, error: type[Exception], words: str
) -> None:
    fill(session)
    with pytest.raises(error, match=words):
        lineage.explain(session, name)


def test_a_reason_of_several_fields_is_one_count_and_one_row_each(session: Session) -> None:
    line = add_line(session)
    window = add_window(session, line, HOUR, [])
    wrong = [("25", "agent_id"), ("7", "reward"), ("9", "agent_id")]
    told = {"source": "jsonl", "reason": "Field required"}
    bad = [Quarantined(row=f"shop.jsonl:{n}", field=field, **told) for n, field in wrong]
    trajectories.insert_quarantine(session, line.id, window, bad)
    found = lineage.explain(session, HOUR)
    assert found.quarantined == {"Field required": 3}
    assert [(one["count"], one["field"], one["row"]) for one in found.quarantined_rows] == [
        (2, "agent_id", "shop.jsonl:25"),
        (1, "reward", "shop.jsonl:7"),
    ]


def test_calls_that_were_reported_elsewhere_in_the_week_name_their_model(session: Session) -> None:
    line = add_line(session)
    for name, moment in (("a1", "2025-01-13T00:00Z"), ("b1", "2025-01-19T23:59Z")):
        said = episode(name)
        new = NewCall.of(said.calls[0], trajectory_id=name, line="main", agent_id="")
        calls.insert(session, [replace(new, at=datetime.fromisoformat(moment))])
        window = add_window(session, line, HOUR, [said.model_copy(update={"calls": []})])
    assert window
    spoken = {one["trajectory_id"]: one["models"] for one in lineage.explain(session, HOUR).trajectories}
    assert spoken == {"a1": ["gpt-4o"], "b1": ["gpt-4o"]}


@pytest.mark.parametrize("state", ["failed", "dead"])
def test_a_window_whose_newest_job_ended_in_vain_says_which(session: Session, state: str) -> None:
    line = add_line(session)
    add_window(session, line, HOUR, [], state="closed")
    add_window(session, line, NEXT, [], state="trained")
    alone = dispatch.request(session, dispatch.Spec("collect", line.id, {"window": HOUR}, {}, "default"))
    session.execute(text("update rlfleet.jobs set state = :state"), {"state": state})
    assert window_pages.newest(session, line.id, 9)[0][0]["reason"] == f"job {alone} {state}: rlfleet jobs show {alone}"
    both = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [HOUR, NEXT]}, {}, "gpu"))
    assert [one["reason"] for one in window_pages.newest(session, line.id, 9)[0]] == [None, None]
    session.execute(text("update rlfleet.jobs set state = :state"), {"state": state})
    windows.move(session, windows.named(session, line.id, HOUR).id, "scored", "late rows")
    told = f"late rows; job {both} {state}: rlfleet jobs show {both}"
    assert [one["reason"] for one in window_pages.newest(session, line.id, 9)[0]] == [told, None]
    assert lineage.explain(session, HOUR).windows[0]["reason"] == told


def test_windows_are_listed_oldest_first_with_their_versions(session: Session) -> None:
    line = add_line(session)
    add_window(session, line, NEXT, [], state="open")
    version, _ = fill(session)
    found = window_pages.newest(session, line.id, 9)[0]
    names = ("name", "state", "trajectories", "groups", "scored", "quarantined", "versions")
    assert [tuple(one[name] for name in names) for one in found] == [
        (HOUR, "trained", 4, 3, 3, 2, [version.name]),
        (NEXT, "open", 0, 0, 0, 0, []),
    ]
